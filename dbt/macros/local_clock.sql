{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}

{% macro local_clock(x, y) %}{{ return(adapter.dispatch('local_clock', 'flowiq')(x, y)) }}{% endmacro %}

{% macro duckdb__local_clock(x, y) %}timezone('UTC', {{ x }}) + to_seconds({{ y }}){% endmacro %}

{% macro postgres__local_clock(x, y) %}({{ x }} AT TIME ZONE 'UTC') + {{ y }} * INTERVAL '1 second'{% endmacro %}

{% macro redshift__local_clock(x, y) %}DATEADD(SECOND, CAST({{ y }} AS INTEGER), {{ x }} AT TIME ZONE 'UTC'){% endmacro %}

{% macro bigquery__local_clock(x, y) %}DATETIME_ADD(DATETIME({{ x }}), INTERVAL {{ y }} SECOND){% endmacro %}

{% macro snowflake__local_clock(x, y) %}DATEADD(SECOND, {{ y }}, CAST(CONVERT_TIMEZONE('UTC', {{ x }}) AS TIMESTAMP_NTZ)){% endmacro %}

{% macro databricks__local_clock(x, y) %}TIMESTAMPADD(MICROSECOND, UNIX_MICROS({{ x }}) + {{ y }} * 1000000, TIMESTAMP_NTZ '1970-01-01 00:00:00'){% endmacro %}

{% macro clickhouse__local_clock(x, y) %}addSeconds(toTimeZone({{ x }}, 'UTC'), {{ y }}){% endmacro %}
