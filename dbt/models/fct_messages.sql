{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}
SELECT
    m.tenant_id,
    m.contact_id,
    m.id AS message_id,
    m.timestamp AS sent_at,
    CASE
        WHEN m.sender LIKE 'user%' THEN 'customer'
        WHEN m.sender LIKE 'bot%' THEN 'bot'
        WHEN m.sender LIKE 'human%' THEN 'agent'
        ELSE 'system'
    END AS party,
    CASE
        WHEN m.sender LIKE '%-whatsapp' THEN 'whatsapp'
        WHEN m.sender LIKE '%-web' THEN 'web'
        WHEN m.sender LIKE '%-%' THEN substr(m.sender, strpos(m.sender, '-') + 1)
    END AS channel,
    m.status,
    CASE
        WHEN m.media_type IS NULL OR m.media_type = '' THEN NULL
        WHEN lower(m.media_type) LIKE 'image%' THEN 'image'
        WHEN lower(m.media_type) LIKE 'audio%' OR lower(m.media_type) IN ('voice', 'ptt') THEN 'audio'
        WHEN lower(m.media_type) LIKE 'video%' THEN 'video'
        WHEN lower(m.media_type) LIKE 'application%' OR lower(m.media_type) LIKE 'text%'
            OR lower(m.media_type) = 'file' THEN 'document'
        ELSE lower(m.media_type)
    END AS media_kind,
    m.assignee,
    {{ local_clock('m.timestamp', 'c.utc_offset_s') }} AS local_at,
    c.local_date,
    c.local_weekday,
    CAST(floor(({{ epoch_seconds('m.timestamp') }} - c.begins_s + c.local_begins_s) / 3600) AS BIGINT)
        AS local_hour,
    c.is_open AS in_business_hours,
    {{ epoch_seconds('m.timestamp') }} AS sent_s,
    c.open_s_before
        + CASE WHEN c.is_open THEN {{ epoch_seconds('m.timestamp') }} - c.begins_s ELSE 0 END AS business_s
FROM {{ source('flowiq', 'current_messages') }} AS m
LEFT JOIN {{ source('flowiq', 'business_calendar') }} AS c
    ON c.tenant_id = m.tenant_id
    AND c.utc_day = CAST(floor({{ epoch_seconds('m.timestamp') }} / 86400) AS BIGINT)
    AND c.begins_s <= {{ epoch_seconds('m.timestamp') }}
    AND c.ends_s > {{ epoch_seconds('m.timestamp') }}
