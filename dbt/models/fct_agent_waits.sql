{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}
WITH waiting AS (
    SELECT
        t.tenant_id,
        t.contact_id,
        t.turn_number,
        CASE WHEN t.party = 'bot' THEN t.ended_at ELSE t.began_at END AS waiting_since,
        CASE WHEN t.party = 'bot' THEN t.ended_s ELSE t.began_s END AS waiting_since_s,
        CASE WHEN t.party = 'bot' THEN t.ended_business_s ELSE t.began_business_s END
            AS waiting_since_business_s,
        t.party = 'bot' OR coalesce(t.previous_party = 'bot', FALSE) AS handed_over,
        t.next_party,
        t.next_began_at,
        t.next_assignee,
        t.next_local_date,
        t.next_began_s,
        t.next_began_business_s
    FROM {{ ref('fct_turns') }} AS t
    LEFT JOIN {{ source('flowiq', 'contacts') }} AS c ON c.tenant_id = t.tenant_id AND c.id = t.contact_id
    WHERE
        (t.party = 'customer' AND (t.next_party = 'agent' OR t.next_party IS NULL))
        OR (
            t.party = 'bot' AND t.previous_party = 'customer'
            AND (t.next_party = 'agent' OR (t.next_party IS NULL AND c.bot_status = 'paused'))
        )
),

waits AS (
    SELECT
        w.*,
        lead(w.waiting_since) OVER (
            PARTITION BY w.tenant_id, w.contact_id ORDER BY w.turn_number
        ) AS next_waiting_since
    FROM waiting AS w
)

SELECT
    w.tenant_id,
    w.contact_id,
    w.waiting_since,
    w.next_began_at AS first_agent_at,
    w.next_assignee AS assignee,
    w.next_local_date AS local_date,
    w.handed_over,
    w.next_began_s - w.waiting_since_s AS wait_seconds,
    w.next_began_business_s - w.waiting_since_business_s AS business_wait_seconds,
    CASE WHEN w.next_party IS NULL THEN {{ epoch_seconds('CURRENT_TIMESTAMP') }} - w.waiting_since_s END
        AS age_seconds
FROM waits AS w
WHERE w.next_waiting_since IS NULL OR w.next_waiting_since > w.waiting_since
