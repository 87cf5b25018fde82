-- The history in flight_delays' features.sql through rollups; what comes after it is that file's own.
with sums as materialized (
    select
        carrier, origin, dest, hour,
        sum(late) as late_28d, sum(flights) as n_28d,
        coalesce(sum(late) filter (week), 0) as late_7d, coalesce(sum(flights) filter (week), 0) as n_7d,
        coalesce(sum(late) filter (yesterday), 0) as late_1d, coalesce(sum(flights) filter (yesterday), 0) as n_1d,
        sum(evening_delay) filter (yesterday) / sum(evening_flights) filter (yesterday) as evening
    from (
        select *,
            day >= partition_start() - interval 7 days as week,
            day >= partition_start() - interval 25 hours as yesterday
        from rates
    )
    group by carrier, origin, dest, hour
),
overall as (
    select late_28d / n_28d as rate from sums where coalesce(carrier, origin, dest) is null
),
carriers as (
    select carrier,
        (late_28d + 50 * rate) / (n_28d + 50) as carrier_late_28d,
        (late_7d + 50 * rate) / (n_7d + 50) as carrier_late_7d,
        (late_1d + 20 * rate) / (n_1d + 20) as carrier_late_1d
    from sums, overall where carrier is not null
),
origins as (
    select origin, late_7d / n_7d as origin_late_7d, evening as origin_delay_evening
    from sums where origin is not null and hour is null
),
hours as (
    select origin, hour,
        (late_28d + 50 * rate) / (n_28d + 50) as hour_late_28d,
        (late_7d + 20 * rate) / (n_7d + 20) as hour_late_7d
    from sums, overall where hour is not null
),
destinations as (
    select dest,
        (late_28d + 50 * rate) / (n_28d + 50) as dest_late_28d,
        (late_1d + 20 * rate) / (n_1d + 20) as dest_late_1d
    from sums, overall where dest is not null
),
numbers as (
    select carrier, flight, dest,
        (sum(late) + 5 * any_value(rate)) / (count(*) + 5) as number_late_28d,
        median(arr_delay) as number_delay_28d
    from arrived, overall group by carrier, flight, dest
),
