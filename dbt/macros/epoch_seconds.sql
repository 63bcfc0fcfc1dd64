{# Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead. #}

{% macro epoch_seconds(x) %}{{ return(adapter.dispatch('epoch_seconds', 'flowiq')(x)) }}{% endmacro %}

{% macro duckdb__epoch_seconds(x) %}epoch({{ x }}){% endmacro %}

{% macro postgres__epoch_seconds(x) %}CAST(EXTRACT(EPOCH FROM {{ x }}) AS DOUBLE PRECISION){% endmacro %}

{% macro redshift__epoch_seconds(x) %}(DATEDIFF(MICROSECOND, TIMESTAMP '1970-01-01', {{ x }} AT TIME ZONE 'UTC') / 1e6){% endmacro %}

{% macro bigquery__epoch_seconds(x) %}(UNIX_MICROS({{ x }}) / 1000000.0){% endmacro %}

{% macro snowflake__epoch_seconds(x) %}(DATE_PART(EPOCH_MICROSECOND, {{ x }}) / 1000000.0){% endmacro %}

{% macro databricks__epoch_seconds(x) %}(UNIX_MICROS({{ x }}) / 1e6){% endmacro %}

{% macro clickhouse__epoch_seconds(x) %}(toUnixTimestamp64Micro(toDateTime64({{ x }}, 6)) / 1000000.0){% endmacro %}
