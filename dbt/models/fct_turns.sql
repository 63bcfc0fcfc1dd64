{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}
WITH marked AS (
    SELECT
        m.*,
        CASE
            WHEN lag(m.party) OVER (
                PARTITION BY m.tenant_id, m.contact_id ORDER BY m.sent_at, m.message_id
            ) = m.party THEN 0
            ELSE 1
        END AS is_first
    FROM {{ ref('fct_messages') }} AS m
    WHERE m.party <> 'system' AND m.sent_at IS NOT NULL
),

numbered AS (
    SELECT
        k.*,
        sum(k.is_first) OVER (
            PARTITION BY k.tenant_id, k.contact_id ORDER BY k.sent_at, k.message_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS turn_number
    FROM marked AS k
),

turns AS (
    SELECT
        n.tenant_id,
        n.contact_id,
        CAST(n.turn_number AS BIGINT) AS turn_number,
        min(n.party) AS party,
        min(n.sent_at) AS began_at,
        max(n.sent_at) AS ended_at,
        count(*) AS messages,
        max(CASE WHEN n.is_first = 1 THEN n.assignee END) AS assignee,
        max(CASE WHEN n.is_first = 1 THEN n.local_date END) AS local_date,
        min(n.sent_s) AS began_s,
        max(n.sent_s) AS ended_s,
        min(n.business_s) AS began_business_s,
        max(n.business_s) AS ended_business_s
    FROM numbered AS n
    GROUP BY n.tenant_id, n.contact_id, n.turn_number
)

SELECT
    t.tenant_id,
    t.contact_id,
    t.turn_number,
    t.party,
    t.began_at,
    t.ended_at,
    t.messages,
    t.assignee,
    t.local_date,
    lead(t.party) OVER (PARTITION BY t.tenant_id, t.contact_id ORDER BY t.turn_number)
        AS next_party,
    lead(t.began_at) OVER (PARTITION BY t.tenant_id, t.contact_id ORDER BY t.turn_number)
        AS next_began_at,
    lead(t.assignee) OVER (PARTITION BY t.tenant_id, t.contact_id ORDER BY t.turn_number)
        AS next_assignee,
    lead(t.local_date) OVER (PARTITION BY t.tenant_id, t.contact_id ORDER BY t.turn_number)
        AS next_local_date,
    lag(t.party) OVER (PARTITION BY t.tenant_id, t.contact_id ORDER BY t.turn_number)
        AS previous_party,
    lag(t.party, 2) OVER (PARTITION BY t.tenant_id, t.contact_id ORDER BY t.turn_number)
        AS party_before_previous,
    t.began_s,
    t.ended_s,
    lead(t.began_s) OVER (PARTITION BY t.tenant_id, t.contact_id ORDER BY t.turn_number)
        AS next_began_s,
    t.began_business_s,
    t.ended_business_s,
    lead(t.began_business_s) OVER (PARTITION BY t.tenant_id, t.contact_id ORDER BY t.turn_number)
        AS next_began_business_s
FROM turns AS t
