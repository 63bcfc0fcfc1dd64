-- Every message that the API still has: who wrote it, when by the clock of the business; no content.
-- Grain: one row per message.
-- Key: tenant_id, contact_id, message_id
-- Columns:
--   tenant_id: the organisation
--   contact_id: whose conversation it is in
--   message_id: the message; ids are unique within a conversation
--   sent_at: when it was sent, UTC; null where the API gave no time
--   party: customer, bot, agent or system, by the beginning of the sender
--   channel: whatsapp, web or what else follows the sender's hyphen; null for the system
--   status: the API's word for what became of it
--   media_kind: image, audio, video, document, sticker, or the API's word; null without media
--   assignee: the member of the team whom the conversation was assigned to
--   local_at: sent_at by the clock of the configured time zone, without a zone
--   local_date: the day of local_at
--   local_weekday: of local_at, 1 is Monday and 7 Sunday
--   local_hour: of local_at, 0 to 23
--   in_business_hours: whether local_at lies within the configured business hours
--   sent_s: sent_at in seconds since 1970
--   business_s: business seconds until sent_at; what two messages differ by is the business time between them
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
    local_clock(m.timestamp, c.utc_offset_s) AS local_at,
    c.local_date,
    c.local_weekday,
    CAST(floor((epoch_seconds(m.timestamp) - c.begins_s + c.local_begins_s) / 3600) AS BIGINT)
        AS local_hour,
    c.is_open AS in_business_hours,
    epoch_seconds(m.timestamp) AS sent_s,
    c.open_s_before
        + CASE WHEN c.is_open THEN epoch_seconds(m.timestamp) - c.begins_s ELSE 0 END AS business_s
FROM current_messages AS m
LEFT JOIN business_calendar AS c
    ON c.tenant_id = m.tenant_id
    AND c.utc_day = CAST(floor(epoch_seconds(m.timestamp) / 86400) AS BIGINT)
    AND c.begins_s <= epoch_seconds(m.timestamp)
    AND c.ends_s > epoch_seconds(m.timestamp)
