-- What became of our messages, each step containing the next; only of those that are a day old or older.
-- Grain: one row per local day on which the bot or an agent wrote.
-- Key: tenant_id, local_date
-- Columns:
--   tenant_id: the organisation
--   local_date: the day in the configured time zone
--   sent: messages that were sent, and did not fail as far as is known
--   delivered: those of them that reached the telephone
--   read: those of them that were read; a lower bound, because customers can hide that they have read
--   failed: messages that were not sent or not delivered; not among sent
--   unknown: messages whose status says none of that; not among sent
--   as_of: messages after this time are left out, because their status may still change; UTC
SELECT
    m.tenant_id,
    m.local_date,
    count(CASE WHEN m.status IN ('sent', 'warning', 'delivered', 'read') THEN 1 END) AS sent,
    count(CASE WHEN m.status IN ('delivered', 'read') THEN 1 END) AS delivered,
    count(CASE WHEN m.status = 'read' THEN 1 END) AS read,
    count(CASE WHEN m.status IN ('failed', 'undelivered') THEN 1 END) AS failed,
    count(
        CASE
            WHEN m.status IN ('sent', 'warning', 'delivered', 'read', 'failed', 'undelivered')
                THEN NULL
            ELSE 1
        END
    ) AS unknown,
    CURRENT_TIMESTAMP - INTERVAL '24 hours' AS as_of
FROM fct_messages AS m
WHERE m.party IN ('bot', 'agent') AND m.sent_at <= CURRENT_TIMESTAMP - INTERVAL '24 hours'
GROUP BY m.tenant_id, m.local_date
