-- Who waits now: conversations whose last word is the customer's.
-- Grain: one row per such conversation.
-- Key: tenant_id, contact_id
-- Columns:
--   tenant_id: the organisation
--   contact_id: who waits
--   waiting_since: time of the first message that nobody has answered, UTC
--   last_message_at: time of the customer's last message, UTC
--   messages: how many messages the customer wrote since waiting_since
--   age_seconds: from waiting_since to now
--   closes_at: when the service window closes, 24 hours after last_message_at; UTC
--   window_seconds_left: until closes_at; 0 when it has closed
SELECT
    t.tenant_id,
    t.contact_id,
    t.began_at AS waiting_since,
    t.ended_at AS last_message_at,
    t.messages,
    epoch_seconds(CURRENT_TIMESTAMP) - t.began_s AS age_seconds,
    t.ended_at + INTERVAL '24 hours' AS closes_at,
    greatest(0, t.ended_s + 86400 - epoch_seconds(CURRENT_TIMESTAMP)) AS window_seconds_left
FROM fct_turns AS t
WHERE t.party = 'customer' AND t.next_party IS NULL
