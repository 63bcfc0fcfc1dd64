{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}
SELECT
    m.tenant_id,
    m.local_weekday,
    m.local_hour,
    count(CASE WHEN m.party = 'customer' THEN 1 END) AS customer_messages,
    count(CASE WHEN m.party = 'bot' THEN 1 END) AS bot_messages,
    count(CASE WHEN m.party = 'agent' THEN 1 END) AS agent_messages,
    count(CASE WHEN m.party = 'customer' AND m.in_business_hours THEN 1 END)
        AS customer_messages_in_business_hours
FROM {{ ref('fct_messages') }} AS m
WHERE m.party <> 'system' AND m.local_hour IS NOT NULL
GROUP BY m.tenant_id, m.local_weekday, m.local_hour
