-- The features of flight_delays through rollups: the same columns and values as its features.sql.
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
numbers_28d as (
    select carrier, flight, dest,
        (sum(late) + 5 * any_value(rate)) / (count(*) + 5) as number_late_28d,
        median(arr_delay) as number_delay_28d
    from numbers, overall group by carrier, flight, dest
),
skies as (
    -- Last evening at the airport; a wind above 200 mph is a broken instrument.
    select origin,
        arg_max(temp - dewp, time_hour) as dew_spread,
        arg_max(pressure, time_hour) as pressure,
        arg_max(pressure, time_hour) - arg_min(pressure, time_hour) as pressure_change,
        min(visib) as visib,
        max(wind_speed) filter (wind_speed < 200) as wind,
        sum(precip) as precip
    from weather
    where time_hour >= partition_start() - interval 6 hours
    group by origin
),
planned as materialized (
    -- In two steps, since DuckDB spends longer on the order of ten joins than on the joins.
    select
        e.flight_id, e.carrier, e.origin, e.dest, e.flight, e.distance,
        e.sched_dep_time // 100 as hour,
        e.sched_dep_time // 100 * 60 + e.sched_dep_time % 100 as departure_minute,
        e.sched_arr_time // 100 * 60 + e.sched_arr_time % 100 as arrival_minute,
        isodow(timezone('America/New_York', e.scheduled_departure)) as weekday,
        count(*) over (partition by e.origin, e.sched_dep_time // 100) as hour_flights,
        year(partition_start()) - p.year as plane_age, p.seats, p.manufacturer,
        c.carrier_late_28d, c.carrier_late_7d, c.carrier_late_1d,
        d.dest_late_28d, d.dest_late_1d
    from entities e
    left join planes p on p.tailnum = e.tailnum
    left join carriers c on c.carrier = e.carrier
    left join destinations d on d.dest = e.dest
)
select
    planned.* exclude (flight, hour),
    o.origin_late_7d, o.origin_delay_evening,
    h.hour_late_28d, h.hour_late_7d,
    n.number_late_28d, n.number_delay_28d,
    s.dew_spread, s.pressure, s.pressure_change, s.visib, s.wind, s.precip
from planned
left join origins o on o.origin = planned.origin
left join hours h on h.origin = planned.origin and h.hour = planned.hour
left join numbers_28d n on n.carrier = planned.carrier and n.flight = planned.flight and n.dest = planned.dest
left join skies s on s.origin = planned.origin
