-- When it is busy: messages by the weekday and hour of the configured time zone.
-- Grain: one row per weekday and hour in which there was a message.
-- Key: tenant_id, local_weekday, local_hour
-- Columns:
--   tenant_id: the organisation
--   local_weekday: 1 is Monday and 7 Sunday
--   local_hour: 0 to 23
--   customer_messages: messages of customers
--   bot_messages: messages of the bot
--   agent_messages: messages of the team
--   customer_messages_in_business_hours: those of customers within business hours
SELECT
    m.tenant_id,
    m.local_weekday,
    m.local_hour,
    count(CASE WHEN m.party = 'customer' THEN 1 END) AS customer_messages,
    count(CASE WHEN m.party = 'bot' THEN 1 END) AS bot_messages,
    count(CASE WHEN m.party = 'agent' THEN 1 END) AS agent_messages,
    count(CASE WHEN m.party = 'customer' AND m.in_business_hours THEN 1 END)
        AS customer_messages_in_business_hours
FROM fct_messages AS m
WHERE m.party <> 'system' AND m.local_hour IS NOT NULL
GROUP BY m.tenant_id, m.local_weekday, m.local_hour
