"""The questions of the report, in DuckDB's SQL; sqlglot puts them into the destination's.

`{…}` is a literal of the report's tenant and time. `weeks` are the weeks of that time, from local
midnight to local midnight.
"""

PERCENTILES = """count(*) AS answers,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY w.wait_seconds) AS median_s,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY w.wait_seconds) AS p90_s,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY w.business_wait_seconds) AS business_median_s,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY w.business_wait_seconds) AS business_p90_s"""

QUERIES = {
    "volume": """
        SELECT m.local_date, m.party, count(*) AS messages
        FROM fct_messages AS m
        WHERE m.tenant_id = {tenant} AND m.local_date BETWEEN {first} AND {last}
        GROUP BY m.local_date, m.party""",
    "load": """
        SELECT m.local_weekday, m.local_hour, count(*) AS messages,
            sum(CASE WHEN m.in_business_hours THEN 1 ELSE 0 END) AS in_business_hours
        FROM fct_messages AS m
        WHERE m.tenant_id = {tenant} AND m.party = 'customer'
            AND m.local_date BETWEEN {first} AND {last}
        GROUP BY m.local_weekday, m.local_hour""",
    "waits": """
        SELECT w.answered_by, k.week, {percentiles}
        FROM fct_waits AS w
        JOIN {weeks} ON w.waiting_since >= k.begins AND w.waiting_since < k.ends
        WHERE w.tenant_id = {tenant} AND w.answered_by IS NOT NULL
        GROUP BY GROUPING SETS ((w.answered_by), (w.answered_by, k.week))""",
    "agent_waits": """
        SELECT coalesce(w.assignee, 'unassigned') AS assignee, k.week, {percentiles},
            percentile_cont(0.95) WITHIN GROUP (ORDER BY w.business_wait_seconds)
                AS business_p95_s
        FROM fct_agent_waits AS w
        JOIN {weeks} ON w.waiting_since >= k.begins AND w.waiting_since < k.ends
        WHERE w.tenant_id = {tenant} AND w.first_agent_at IS NOT NULL
        GROUP BY GROUPING SETS ((), (k.week), (coalesce(w.assignee, 'unassigned')))""",
    "backlog": """
        SELECT CASE WHEN b.age_seconds < 3600 THEN 0 WHEN b.age_seconds < 14400 THEN 1
                WHEN b.age_seconds < 86400 THEN 2 WHEN b.age_seconds < 604800 THEN 3 ELSE 4
            END AS age,
            CASE WHEN b.closes_at <= {now} THEN 'closed' WHEN b.closes_at <= {soon} THEN 'closing'
                ELSE 'open' END AS state, count(*) AS conversations
        FROM fct_backlog AS b
        WHERE b.tenant_id = {tenant}
        GROUP BY 1, 2""",
    "waiting": """
        SELECT c.full_name, c.whatsapp_id, m.content, b.waiting_since, b.closes_at
        FROM fct_backlog AS b
        LEFT JOIN contacts AS c ON c.tenant_id = b.tenant_id AND c.id = b.contact_id
        LEFT JOIN (
            SELECT s.tenant_id, s.contact_id, s.content, row_number() OVER (
                PARTITION BY s.tenant_id, s.contact_id
                ORDER BY s.timestamp DESC NULLS LAST, s.id DESC NULLS LAST) AS place
            FROM current_messages AS s
            WHERE s.tenant_id = {tenant} AND s.sender LIKE 'user%'
        ) AS m ON m.tenant_id = b.tenant_id AND m.contact_id = b.contact_id AND m.place = 1
        WHERE b.tenant_id = {tenant}
        ORDER BY b.waiting_since NULLS LAST, b.contact_id
        LIMIT 100""",
    "windows": """
        SELECT k.week, w.outcome, count(*) AS windows,
            sum(CASE WHEN w.outcome <> 'open' AND w.returned_within_7_days THEN 1 ELSE 0 END)
                AS returned
        FROM fct_windows AS w
        JOIN {weeks} ON w.opened_at >= k.begins AND w.opened_at < k.ends
        WHERE w.tenant_id = {tenant}
        GROUP BY k.week, w.outcome""",
    "delivery": """
        SELECT sum(d.sent) AS sent, sum(d.delivered) AS delivered, sum(d."read") AS seen,
            sum(d.failed) AS failed
        FROM fct_delivery_daily AS d
        WHERE d.tenant_id = {tenant} AND d.local_date BETWEEN {first} AND {last}""",
    "agents": """
        SELECT coalesce(m.assignee, 'unassigned') AS assignee, count(*) AS messages,
            count(DISTINCT m.contact_id) AS conversations
        FROM fct_messages AS m
        WHERE m.tenant_id = {tenant} AND m.party = 'agent'
            AND m.local_date BETWEEN {first} AND {last}
        GROUP BY coalesce(m.assignee, 'unassigned')
        ORDER BY 2 DESC, 1""",
    "reactions": """
        SELECT r.emoji, count(*) AS reactions
        FROM messages__reactions AS r
        JOIN current_messages AS m ON m._dlt_id = r._dlt_parent_id
        WHERE m.tenant_id = {tenant} AND m.timestamp >= {begin} AND m.timestamp < {end}
            AND r.emoji IS NOT NULL
        GROUP BY r.emoji
        ORDER BY 2 DESC, 1
        LIMIT 30""",
    "rejected": """
        SELECT r.table_name, r.column_name, r.reason, count(*) AS values_
        FROM rejected_rows AS r
        WHERE r.tenant_id = {tenant}
        GROUP BY r.table_name, r.column_name, r.reason
        ORDER BY 4 DESC, 1, 2, 3
        LIMIT 50""",
    "failures": """
        SELECT c.error, count(*) AS conversations
        FROM conversations AS c
        WHERE c.tenant_id = {tenant} AND c.status = 'failed'
        GROUP BY c.error
        ORDER BY 2 DESC, 1
        LIMIT 20""",
}
