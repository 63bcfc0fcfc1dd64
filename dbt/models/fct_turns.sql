{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}
WITH marked AS (
    SELECT
        m.tenant_id,
        m.contact_id,
        m.party,
        m.sent_at,
        m.assignee,
        m.local_date,
        m.sent_s,
        m.business_s,
        lag(m.party) OVER (PARTITION BY m.tenant_id, m.contact_id ORDER BY m.sent_at, m.message_id)
            AS previous_party,
        lag(m.sent_at) OVER (PARTITION BY m.tenant_id, m.contact_id ORDER BY m.sent_at, m.message_id)
            AS previous_at,
        lag(m.sent_s) OVER (PARTITION BY m.tenant_id, m.contact_id ORDER BY m.sent_at, m.message_id)
            AS previous_s,
        lag(m.business_s) OVER (PARTITION BY m.tenant_id, m.contact_id ORDER BY m.sent_at, m.message_id)
            AS previous_business_s,
        row_number() OVER (PARTITION BY m.tenant_id, m.contact_id ORDER BY m.sent_at, m.message_id)
            AS place,
        count(*) OVER (PARTITION BY m.tenant_id, m.contact_id) AS places,
        max(m.sent_at) OVER (PARTITION BY m.tenant_id, m.contact_id) AS last_at,
        max(m.sent_s) OVER (PARTITION BY m.tenant_id, m.contact_id) AS last_s,
        max(m.business_s) OVER (PARTITION BY m.tenant_id, m.contact_id) AS last_business_s
    FROM {{ ref('fct_messages') }} AS m
    WHERE m.party <> 'system' AND m.sent_at IS NOT NULL
),

-- The first message of each turn: what is before it ends the turn before.
firsts AS (
    SELECT k.*
    FROM marked AS k
    WHERE k.previous_party IS NULL OR k.previous_party <> k.party
)

SELECT
    f.tenant_id,
    f.contact_id,
    row_number() OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place) AS turn_number,
    f.party,
    f.sent_at AS began_at,
    coalesce(
        lead(f.previous_at) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place), f.last_at
    ) AS ended_at,
    coalesce(lead(f.place) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place), f.places + 1)
        - f.place AS messages,
    f.assignee,
    f.local_date,
    lead(f.party) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place)
        AS next_party,
    lead(f.sent_at) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place)
        AS next_began_at,
    lead(f.assignee) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place)
        AS next_assignee,
    lead(f.local_date) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place)
        AS next_local_date,
    f.previous_party,
    f.sent_s AS began_s,
    coalesce(
        lead(f.previous_s) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place), f.last_s
    ) AS ended_s,
    lead(f.sent_s) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place)
        AS next_began_s,
    f.business_s AS began_business_s,
    CASE
        WHEN lead(f.place) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place) IS NULL
            THEN f.last_business_s
        ELSE lead(f.previous_business_s) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place)
    END AS ended_business_s,
    lead(f.business_s) OVER (PARTITION BY f.tenant_id, f.contact_id ORDER BY f.place)
        AS next_began_business_s
FROM firsts AS f
