-- How the flights of a day went: altogether, by carrier, by destination, by airport, and by airport and hour.
select
    partition_start() as day, carrier, origin, dest, hour,
    sum(late) as late, count(late) as flights,
    sum(dep_delay) filter (hour >= 18) as evening_delay, count(dep_delay) filter (hour >= 18) as evening_flights
from (
    select s.carrier, s.origin, s.dest, s.sched_dep_time // 100 as hour, o.dep_delay, (o.arr_delay > 15)::int as late
    from schedule s join outcomes o using (flight_id)
)
group by grouping sets ((), (carrier), (dest), (origin), (origin, hour))
