{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}
SELECT
    t.tenant_id,
    t.contact_id,
    t.began_at AS waiting_since,
    t.ended_at AS last_message_at,
    t.messages,
    {{ epoch_seconds('CURRENT_TIMESTAMP') }} - t.began_s AS age_seconds,
    t.ended_at + INTERVAL '24 hours' AS closes_at,
    greatest(0, t.ended_s + 86400 - {{ epoch_seconds('CURRENT_TIMESTAMP') }}) AS window_seconds_left
FROM {{ ref('fct_turns') }} AS t
WHERE t.party = 'customer' AND t.next_party IS NULL
