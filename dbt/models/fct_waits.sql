{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}
WITH waits AS (
    SELECT
        t.*,
        lead(t.began_at) OVER (PARTITION BY t.tenant_id, t.contact_id ORDER BY t.turn_number)
            AS next_waiting_since
    FROM {{ ref('fct_turns') }} AS t
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
    CASE WHEN w.next_party IS NULL THEN {{ epoch_seconds('CURRENT_TIMESTAMP') }} - w.began_s END
        AS age_seconds
FROM waits AS w
WHERE w.next_waiting_since IS NULL OR w.next_waiting_since > w.began_at
