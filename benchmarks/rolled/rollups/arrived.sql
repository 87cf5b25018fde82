-- The flights of a day that arrived: a median can't be added up, so they stay rows, narrow ones.
select s.carrier, s.flight, s.dest, (o.arr_delay > 15)::int as late, o.arr_delay
from schedule s join outcomes o using (flight_id)
where o.arr_delay is not null
