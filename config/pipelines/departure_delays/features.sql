-- Features of a flight two hours before the hour of its departure: how the day runs at its airport,
-- which flights should have left by now and did not, the weather, the last days of its carrier.
-- Views are cut: movements and observations reach to three hours before the hour of departure.
with now as materialized (
    -- The end of what is known: movements and observations of an hour come ten minutes after it.
    select date_trunc('hour', as_of() - interval 10 minutes) as known_to
),
flown as materialized (
    -- Flights of the last days and what became of them.
    select
        s.carrier, s.flight, s.dest, s.origin,
        s.sched_dep_time // 100 as hour,
        o.arr_delay,
        (o.arr_delay > 15)::int as late,
        avg((o.arr_delay > 15)::int) over () as rate
    from schedule s
    join outcomes o using (flight_id)
),
today as materialized (
    -- Flights that should have left within six hours before the end of what is known.
    select
        s.origin, s.carrier, s.dest, s.scheduled_departure,
        m.flight_id is null as waiting,
        -- Who has not left yet is late by at least the time that has passed.
        coalesce(m.dep_delay, date_diff('minute', s.scheduled_departure, known_to)) as delay,
        s.scheduled_departure >= known_to - interval 2 hours as recent
    from schedule s
    cross join now
    left join movements m on m.flight_id = s.flight_id
    where s.scheduled_departure >= known_to - interval 6 hours and s.scheduled_departure < known_to
),
carriers as (
    -- Rates are drawn towards the overall rate, as if some more flights had been average.
    select carrier, (sum(late) + 50 * any_value(rate)) / (count(late) + 50) as carrier_late_7d
    from flown group by carrier
),
hours as (
    select origin, hour, (sum(late) + 20 * any_value(rate)) / (count(late) + 20) as hour_late_7d
    from flown group by origin, hour
),
destinations as (
    select dest, (sum(late) + 20 * any_value(rate)) / (count(late) + 20) as dest_late_7d
    from flown group by dest
),
numbers as (
    select carrier, flight, dest,
        (sum(late) + 3 * any_value(rate)) / (count(late) + 3) as number_late_7d,
        median(arr_delay) as number_delay_7d
    from flown group by carrier, flight, dest
),
airports as (
    select origin,
        avg(least(delay, 180)) as airport_delay_6h,
        avg(least(delay, 180)) filter (recent) as airport_delay_2h,
        avg((delay > 15)::int) filter (recent) as airport_late_2h,
        avg(waiting::int) filter (recent) as airport_waiting_2h,
        sum((waiting and not recent)::int) as airport_stuck
    from today group by origin
),
airlines as (
    select origin, carrier, avg(least(delay, 180)) as airline_delay_6h, count(*) as airline_flights_6h
    from today group by origin, carrier
),
ways as (
    select dest, avg(least(delay, 180)) as way_delay_6h from today group by dest
),
skies as (
    -- The last three hours; a wind above 200 mph is a broken instrument.
    select origin,
        arg_max(temp - dewp, time_hour) as dew_spread,
        arg_max(pressure, time_hour) - arg_min(pressure, time_hour) as pressure_change,
        min(visib) as visib,
        max(wind_speed) filter (wind_speed < 200) as wind,
        max(wind_gust) as gust,
        sum(precip) as precip
    from observations
    cross join now
    where time_hour >= known_to - interval 3 hours
    group by origin
),
planned as materialized (
    -- In two steps, since DuckDB spends longer on the order of ten joins than on the joins.
    select
        e.flight_id, e.carrier, e.origin, e.dest, e.distance,
        e.sched_dep_time // 100 * 60 + e.sched_dep_time % 100 as departure_minute,
        e.sched_arr_time // 100 * 60 + e.sched_arr_time % 100 as arrival_minute,
        isodow(timezone('America/New_York', e.scheduled_departure)) as weekday,
        count(*) over (partition by e.origin) as hour_flights,
        c.carrier_late_7d, h.hour_late_7d, d.dest_late_7d, n.number_late_7d, n.number_delay_7d
    from entities e
    left join carriers c on c.carrier = e.carrier
    left join hours h on h.origin = e.origin and h.hour = e.sched_dep_time // 100
    left join destinations d on d.dest = e.dest
    left join numbers n on n.carrier = e.carrier and n.flight = e.flight and n.dest = e.dest
)
select
    planned.*,
    p.airport_delay_6h, p.airport_delay_2h, p.airport_late_2h, p.airport_waiting_2h, p.airport_stuck,
    l.airline_delay_6h, l.airline_flights_6h,
    w.way_delay_6h,
    s.dew_spread, s.pressure_change, s.visib, s.wind, s.gust, s.precip
from planned
left join airports p on p.origin = planned.origin
left join airlines l on l.origin = planned.origin and l.carrier = planned.carrier
left join ways w on w.dest = planned.dest
left join skies s on s.origin = planned.origin
