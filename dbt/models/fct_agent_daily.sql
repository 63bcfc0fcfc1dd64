{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}
WITH written AS (
    SELECT
        m.tenant_id,
        m.local_date,
        coalesce(m.assignee, 'unassigned') AS assignee,
        count(*) AS messages,
        count(DISTINCT m.contact_id) AS conversations
    FROM {{ ref('fct_messages') }} AS m
    WHERE m.party = 'agent' AND m.sent_at IS NOT NULL
    GROUP BY m.tenant_id, m.local_date, coalesce(m.assignee, 'unassigned')
),

ended AS (
    SELECT
        w.tenant_id,
        w.local_date,
        coalesce(w.assignee, 'unassigned') AS assignee,
        w.wait_seconds,
        w.business_wait_seconds
    FROM {{ ref('fct_agent_waits') }} AS w
    WHERE w.first_agent_at IS NOT NULL
),

ranked AS (
    SELECT
        e.*,
        row_number() OVER (
            PARTITION BY e.tenant_id, e.local_date, e.assignee ORDER BY e.wait_seconds
        ) - 1 AS place,
        row_number() OVER (
            PARTITION BY e.tenant_id, e.local_date, e.assignee, e.business_wait_seconds IS NULL
            ORDER BY e.business_wait_seconds
        ) - 1 AS business_place,
        count(e.business_wait_seconds) OVER (
            PARTITION BY e.tenant_id, e.local_date, e.assignee
        ) - 1 AS last_business_place,
        count(*) OVER (PARTITION BY e.tenant_id, e.local_date, e.assignee) - 1 AS last_place
    FROM ended AS e
),

-- A percentile between two values is as far between them as it lies between their places.
percentiles AS (
    SELECT
        r.tenant_id,
        r.local_date,
        r.assignee,
        count(*) AS answers,
        sum(r.wait_seconds * greatest(0, 1 - abs(r.place - 0.5 * r.last_place))) AS p50,
        sum(r.wait_seconds * greatest(0, 1 - abs(r.place - 0.9 * r.last_place))) AS p90,
        sum(r.wait_seconds * greatest(0, 1 - abs(r.place - 0.95 * r.last_place))) AS p95,
        sum(
            r.business_wait_seconds
            * greatest(0, 1 - abs(r.business_place - 0.5 * r.last_business_place))
        ) AS business_p50,
        sum(
            r.business_wait_seconds
            * greatest(0, 1 - abs(r.business_place - 0.9 * r.last_business_place))
        ) AS business_p90,
        sum(
            r.business_wait_seconds
            * greatest(0, 1 - abs(r.business_place - 0.95 * r.last_business_place))
        ) AS business_p95
    FROM ranked AS r
    GROUP BY r.tenant_id, r.local_date, r.assignee
)

SELECT
    w.tenant_id,
    w.local_date,
    w.assignee,
    w.messages,
    w.conversations,
    coalesce(p.answers, 0) AS answers,
    p.p50 AS median_wait_seconds,
    p.p90 AS p90_wait_seconds,
    p.p95 AS p95_wait_seconds,
    p.business_p50 AS median_business_wait_seconds,
    p.business_p90 AS p90_business_wait_seconds,
    p.business_p95 AS p95_business_wait_seconds
FROM written AS w
LEFT JOIN percentiles AS p
    ON p.tenant_id = w.tenant_id AND p.assignee = w.assignee AND p.local_date = w.local_date
