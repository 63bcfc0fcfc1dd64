{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}
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
FROM {{ ref('fct_messages') }} AS m
WHERE m.party IN ('bot', 'agent') AND m.sent_at <= CURRENT_TIMESTAMP - INTERVAL '24 hours'
GROUP BY m.tenant_id, m.local_date
