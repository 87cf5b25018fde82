-- Features of a flight at four in the morning of its day: what the schedule says, how carriers,
-- routes and airports ran through the day before, the weather of last evening, the aircraft.
-- Views are cut: a day's own outcomes are not in them.
--
-- The data's tail numbers are those that really flew: an aircraft due out again sooner than it can
-- be back was swapped after a delay. So no feature counts an aircraft's flights, only its build is used.
-- The month is no feature either: with one year of data it would stand for the days themselves.
with flown as materialized (
    -- Flights of the lookback and what became of them; no delay where cancelled or diverted.
    select
        s.carrier, s.flight, s.origin, s.dest,
        s.sched_dep_time // 100 as hour,
        s.scheduled_departure >= partition_start() - interval 7 days as week,
        s.scheduled_departure >= partition_start() - interval 25 hours as yesterday,
        o.dep_delay, o.arr_delay,
        (o.arr_delay > 15)::int as late,
        avg((o.arr_delay > 15)::int) over () as rate
    from schedule s
    join outcomes o using (flight_id)
),
-- Rates are drawn towards the overall rate, as if some more flights had been average: three flights
-- say little about a route.
carriers as (
    select carrier,
        (sum(late) + 50 * any_value(rate)) / (count(late) + 50) as carrier_late_28d,
        (sum(late) filter (week) + 50 * any_value(rate)) / (count(late) filter (week) + 50) as carrier_late_7d,
        (sum(late) filter (yesterday) + 20 * any_value(rate)) / (count(late) filter (yesterday) + 20) as carrier_late_1d
    from flown group by carrier
),
origins as (
    select origin,
        avg(late) filter (week) as origin_late_7d,
        avg(dep_delay) filter (yesterday and hour >= 18) as origin_delay_evening
    from flown group by origin
),
hours as (
    select origin, hour,
        (sum(late) + 50 * any_value(rate)) / (count(late) + 50) as hour_late_28d,
        (sum(late) filter (week) + 20 * any_value(rate)) / (count(late) filter (week) + 20) as hour_late_7d
    from flown group by origin, hour
),
destinations as (
    select dest,
        (sum(late) + 50 * any_value(rate)) / (count(late) + 50) as dest_late_28d,
        (sum(late) filter (yesterday) + 20 * any_value(rate)) / (count(late) filter (yesterday) + 20) as dest_late_1d
    from flown group by dest
),
numbers as (
    -- A flight number on its route, day after day: its usual delay tells how generous its schedule is.
    select carrier, flight, dest,
        (sum(late) + 5 * any_value(rate)) / (count(late) + 5) as number_late_28d,
        median(arr_delay) as number_delay_28d
    from flown group by carrier, flight, dest
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
left join numbers n on n.carrier = planned.carrier and n.flight = planned.flight and n.dest = planned.dest
left join skies s on s.origin = planned.origin
