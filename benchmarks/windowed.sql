-- The features of flight_delays for every day of the year in one statement, as an expert writes it
-- by hand for a backfill: daily sums, windowed. It needs to know that days are whole and that nothing
-- comes late or is restated, which features.sql does not. `yesterday` is the calendar day here.
with flown as materialized (
    select s.*, timezone('America/New_York', s.scheduled_departure)::date as day, s.sched_dep_time // 100 as hour,
        o.dep_delay, o.arr_delay, (o.arr_delay > 15)::int as late
    from schedule s join outcomes o using (flight_id)
),
rates as (
    select day, sum(sum(late)) over m / sum(count(late)) over m as rate
    from flown group by day window m as (order by day range between interval 28 days preceding and interval 1 day preceding)
),
carriers as (
    select carrier, day, sum(sum(late)) over m as s28, sum(count(late)) over m as n28, sum(sum(late)) over w as s7,
        sum(count(late)) over w as n7, sum(sum(late)) over y as s1, sum(count(late)) over y as n1
    from flown group by carrier, day
    window m as (partition by carrier order by day range between interval 28 days preceding and interval 1 day preceding),
        w as (partition by carrier order by day range between interval 7 days preceding and interval 1 day preceding),
        y as (partition by carrier order by day range between interval 1 day preceding and interval 1 day preceding)
),
origins as (
    select origin, day, sum(sum(late)) over w / sum(count(late)) over w as origin_late_7d,
        any_value(avg(dep_delay) filter (hour >= 18)) over y as origin_delay_evening
    from flown group by origin, day
    window w as (partition by origin order by day range between interval 7 days preceding and interval 1 day preceding),
        y as (partition by origin order by day range between interval 1 day preceding and interval 1 day preceding)
),
hours as (
    select origin, hour, day, sum(sum(late)) over m as s28, sum(count(late)) over m as n28,
        sum(sum(late)) over w as s7, sum(count(late)) over w as n7, count(*) as hour_flights
    from flown group by origin, hour, day
    window m as (partition by origin, hour order by day range between interval 28 days preceding and interval 1 day preceding),
        w as (partition by origin, hour order by day range between interval 7 days preceding and interval 1 day preceding)
),
destinations as (
    select dest, day, sum(sum(late)) over m as s28, sum(count(late)) over m as n28,
        sum(sum(late)) over y as s1, sum(count(late)) over y as n1
    from flown group by dest, day
    window m as (partition by dest order by day range between interval 28 days preceding and interval 1 day preceding),
        y as (partition by dest order by day range between interval 1 day preceding and interval 1 day preceding)
),
numbers as (
    select flight_id, sum(late) over m as s28, count(late) over m as n28, median(arr_delay) over m as number_delay_28d
    from flown
    window m as (partition by carrier, flight, dest order by day range between interval 28 days preceding and interval 1 day preceding)
),
skies as (
    select origin, (timezone('America/New_York', time_hour) + interval 6 hours)::date as day,
        arg_max(temp - dewp, time_hour) as dew_spread, arg_max(pressure, time_hour) as pressure,
        arg_max(pressure, time_hour) - arg_min(pressure, time_hour) as pressure_change,
        min(visib) as visib, max(wind_speed) filter (wind_speed < 200) as wind, sum(precip) as precip
    from weather where hour(timezone('America/New_York', time_hour)) >= 18 group by all
)
select f.flight_id, f.day::varchar as partition_key, f.carrier, f.origin, f.dest, f.distance,
    f.hour * 60 + f.sched_dep_time % 100 as departure_minute,
    f.sched_arr_time // 100 * 60 + f.sched_arr_time % 100 as arrival_minute,
    isodow(f.day) as weekday, h.hour_flights, year(f.day) - p.year as plane_age, p.seats, p.manufacturer,
    (c.s28 + 50 * r.rate) / (c.n28 + 50) as carrier_late_28d, (c.s7 + 50 * r.rate) / (c.n7 + 50) as carrier_late_7d,
    (c.s1 + 20 * r.rate) / (c.n1 + 20) as carrier_late_1d,
    (d.s28 + 50 * r.rate) / (d.n28 + 50) as dest_late_28d, (d.s1 + 20 * r.rate) / (d.n1 + 20) as dest_late_1d,
    o.origin_late_7d, o.origin_delay_evening,
    (h.s28 + 50 * r.rate) / (h.n28 + 50) as hour_late_28d, (h.s7 + 20 * r.rate) / (h.n7 + 20) as hour_late_7d,
    (n.s28 + 5 * r.rate) / (n.n28 + 5) as number_late_28d, n.number_delay_28d,
    s.dew_spread, s.pressure, s.pressure_change, s.visib, s.wind, s.precip
from flown f
left join rates r on r.day = f.day
left join carriers c on c.carrier = f.carrier and c.day = f.day
left join origins o on o.origin = f.origin and o.day = f.day
left join hours h on h.origin = f.origin and h.hour = f.hour and h.day = f.day
left join destinations d on d.dest = f.dest and d.day = f.day
left join numbers n on n.flight_id = f.flight_id
left join skies s on s.origin = f.origin and s.day = f.day
left join planes p on p.tailnum = f.tailnum
