-- WhatsApp's service windows: within 24 hours of a customer's last message a business may write freely.
-- Grain: one row per window.
-- Key: tenant_id, contact_id, opened_at
-- Columns:
--   tenant_id: the organisation
--   contact_id: whose window it is
--   opened_at: time of the customer's message that opened it, UTC
--   closes_at: 24 hours after the customer's last message in it, UTC
--   customer_messages: messages of the customer in it
--   bot_messages: messages of the bot in it
--   agent_messages: messages of the team in it
--   outcome: open until closes_at, and of one that the bot alone answered for 24 hours more; then unanswered (nobody wrote), agent_only, handed_over (bot and agent wrote), contained (the bot alone, and the customer did not come back within 24 hours of closes_at) or returned (the bot alone, and the customer did)
--   returned_within_7_days: whether the customer wrote again within 7 days of closes_at; null until that is known
WITH said AS (
    SELECT
        m.tenant_id,
        m.contact_id,
        m.message_id,
        m.party,
        m.sent_at,
        m.sent_s,
        max(CASE WHEN m.party = 'customer' THEN m.sent_s END) OVER (
            PARTITION BY m.tenant_id, m.contact_id ORDER BY m.sent_at, m.message_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS customer_s
    FROM fct_messages AS m
    WHERE m.party <> 'system' AND m.sent_at IS NOT NULL
),

numbered AS (
    SELECT
        s.*,
        sum(
            CASE
                WHEN s.party <> 'customer' THEN 0
                WHEN s.customer_s IS NULL OR s.sent_s - s.customer_s >= 86400 THEN 1
                ELSE 0
            END
        ) OVER (
            PARTITION BY s.tenant_id, s.contact_id ORDER BY s.sent_at, s.message_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS window_number
    FROM said AS s
),

windows AS (
    SELECT
        n.tenant_id,
        n.contact_id,
        n.window_number,
        min(CASE WHEN n.party = 'customer' THEN n.sent_at END) AS opened_at,
        min(CASE WHEN n.party = 'customer' THEN n.sent_s END) AS opened_s,
        max(CASE WHEN n.party = 'customer' THEN n.sent_at END) AS last_customer_at,
        max(CASE WHEN n.party = 'customer' THEN n.sent_s END) + 86400 AS closes_s,
        count(CASE WHEN n.party = 'customer' THEN 1 END) AS customer_messages,
        count(CASE WHEN n.party = 'bot' THEN 1 END) AS bot_messages,
        count(CASE WHEN n.party = 'agent' THEN 1 END) AS agent_messages
    FROM numbered AS n
    WHERE n.window_number > 0 AND (n.party = 'customer' OR n.sent_s - n.customer_s < 86400)
    GROUP BY n.tenant_id, n.contact_id, n.window_number
),

followed AS (
    SELECT
        w.*,
        lead(w.opened_s) OVER (
            PARTITION BY w.tenant_id, w.contact_id ORDER BY w.window_number
        ) - w.closes_s AS away_s,
        epoch_seconds(CURRENT_TIMESTAMP) - w.closes_s AS closed_for_s
    FROM windows AS w
)

SELECT
    f.tenant_id,
    f.contact_id,
    f.opened_at,
    f.last_customer_at + INTERVAL '24 hours' AS closes_at,
    f.customer_messages,
    f.bot_messages,
    f.agent_messages,
    CASE
        WHEN f.closed_for_s < 0 THEN 'open'
        WHEN f.agent_messages > 0 AND f.bot_messages > 0 THEN 'handed_over'
        WHEN f.agent_messages > 0 THEN 'agent_only'
        WHEN f.bot_messages = 0 THEN 'unanswered'
        WHEN f.away_s <= 86400 THEN 'returned'
        WHEN f.closed_for_s < 86400 THEN 'open'
        ELSE 'contained'
    END AS outcome,
    CASE
        WHEN f.away_s <= 604800 THEN TRUE
        WHEN f.closed_for_s >= 604800 THEN FALSE
    END AS returned_within_7_days
FROM followed AS f
