-- How long a customer waits for any answer: from the first message since the last answer to the next one.
-- Grain: one row per wait; of waits that begin at the same instant, the last.
-- Key: tenant_id, contact_id, waiting_since
-- Columns:
--   tenant_id: the organisation
--   contact_id: who waits
--   waiting_since: time of the first message that nobody had answered, UTC
--   messages: how many messages the customer wrote while waiting
--   answered_at: time of the first message of the bot or an agent after that, UTC; null while nobody has answered
--   answered_by: bot or agent; null while nobody has answered
--   wait_seconds: from waiting_since to answered_at; null while nobody has answered
--   business_wait_seconds: those of them within business hours
--   age_seconds: of an open wait, how long it has lasted until now; null of an answered one
WITH waits AS (
    SELECT
        t.*,
        lead(t.began_at) OVER (PARTITION BY t.tenant_id, t.contact_id ORDER BY t.turn_number)
            AS next_waiting_since
    FROM fct_turns AS t
    WHERE t.party = 'customer'
)

SELECT
    w.tenant_id,
    w.contact_id,
    w.began_at AS waiting_since,
    w.messages,
    w.next_began_at AS answered_at,
    w.next_party AS answered_by,
    w.next_began_s - w.began_s AS wait_seconds,
    w.next_began_business_s - w.began_business_s AS business_wait_seconds,
    CASE WHEN w.next_party IS NULL THEN epoch_seconds(CURRENT_TIMESTAMP) - w.began_s END
        AS age_seconds
FROM waits AS w
WHERE w.next_waiting_since IS NULL OR w.next_waiting_since > w.began_at
