"""The twin's event loop, compiled by numba; `twin.py` prepares its arguments.

All running jobs progress at the same speed, so each is represented by the reading of a common clock at which it will be
finished (virtual time in processor sharing: Parekh and Gallager, IEEE/ACM Transactions on Networking 1, 1993).
"""

import numba
import numpy as np

NEVER = 1e18
_CLIENT, _SERVER = 0, 1  # the serial stations
_RESTING, _WAKING = 0, -1  # in place of the size of an instance's batch


@numba.njit(cache=True)
def _take(pending, preferred, expired):  # type: ignore[no-untyped-def]
    # The largest preferred size; everything after the delay.
    if expired:
        return pending
    fitting = 0
    for size in preferred:
        if size <= pending:
            fitting = size
    return fitting if fitting > 0 else pending


@numba.njit(cache=True)
def loop(arrivals, callers, host, batching, preferred, factors, away, lengths):  # type: ignore[no-untyped-def]
    """Simulate all events in order.

    Args:
        arrivals: [requests] times in seconds, ascending; in a closed loop only their number counts.
        callers: of a closed loop; 0 for an open loop.
        host: parameters in seconds, see `twin.Host`.
        batching: max_batch_size, queue delay in seconds, instances, threads of each.
        preferred: [sizes] preferred batch sizes, ascending; max_batch_size alone where there are none.
        factors: [requests] multiply the times of the batches, in order.
        away: [4096] times in seconds at which the host stalls; they recur.
        lengths: [4096] of the stalls in seconds.

    Returns:
        [requests] latencies, number of batches, time of the last event, work done; times in seconds.
    """
    cores, sender, front, turn, start, each, rest, wake, way = host
    most, delay, instances, threads = batching
    count = len(arrivals)
    came = np.zeros(count)  # when each request arrived
    queued = np.zeros(count)  # when it entered the batcher's queue
    latency = np.zeros(count)
    # The queues of the two serial stations hold 2 * request on the way in, plus 1 on the way out.
    line = np.zeros((2, 2 * count + 1), np.int64)
    line_head = np.zeros(2, np.int64)
    line_tail = np.zeros(2, np.int64)
    station_done = np.full(2, NEVER)
    station_free = np.full(2, -1.0)  # when it became idle
    waiting = np.zeros(count, np.int64)  # the batcher's queue
    head = tail = 0
    machine_first = np.zeros(instances, np.int64)
    machine_size = np.zeros(instances, np.int64)
    machine_done = np.full(instances, NEVER)
    inside = np.zeros(count, np.int64)  # the queue's requests in the order of execution
    back = np.zeros(count)  # a closed loop's next arrivals
    back_head = back_tail = 0
    now = clock = work = 0.0
    machines = batches = stall = done = arrived = 0
    timer = NEVER
    for caller in range(min(callers, count)):
        back[back_tail] = caller * 1e-6
        back_tail += 1
    while done < count:
        # Find the next event.
        wanted = machines * threads
        for station in range(2):
            wanted += 1 if station_done[station] < NEVER else 0
        speed = 1.0 if wanted <= cores else cores / wanted
        soonest = min(station_done[_CLIENT], station_done[_SERVER])
        for index in range(instances):
            soonest = min(soonest, machine_done[index])
        finish = now + (soonest - clock) / speed if soonest < NEVER else NEVER
        if callers > 0:
            arrival = back[back_head] if back_head < back_tail and arrived < count else NEVER
        else:
            arrival = arrivals[arrived] if arrived < count else NEVER
        pause = away[stall % 4096] + (stall // 4096) * away[4095]
        step = min(finish, arrival, timer)
        if pause <= step:
            # The host stalls: time passes, no work is done.
            until = pause if pause > now else now
            clock += max(0.0, until - now) * speed
            work += max(0.0, until - now) * min(float(wanted), cores)
            now = until + lengths[stall % 4096]
            stall += 1
            # What arrived during the stall is handled now; its latency counts from the arrival.
            continue
        if finish <= step:
            work += (max(step, now) - now) * min(float(wanted), cores)
            clock = soonest  # Exactly as in the jobs: a sum of steps would miss it forever by a rounding error.
            now = max(step, now)
        elif step > now:
            clock += (step - now) * speed
            work += (step - now) * min(float(wanted), cores)
            now = step
        if arrival <= step:
            came[arrived] = arrival
            if callers > 0:
                back_head += 1
            line[_CLIENT, line_tail[_CLIENT]] = 2 * arrived
            line_tail[_CLIENT] += 1
            arrived += 1
        elif finish <= step:
            for station in range(2):
                if station_done[station] > clock:
                    continue
                ticket = line[station, line_head[station]]
                request, leaving = ticket // 2, ticket % 2 == 1
                line_head[station] += 1
                station_done[station] = NEVER
                station_free[station] = now
                if (station == _CLIENT) != leaving:
                    # On to the other station.
                    line[1 - station, line_tail[1 - station]] = ticket
                    line_tail[1 - station] += 1
                elif station == _SERVER:
                    queued[request] = now
                    waiting[tail] = request
                    tail += 1
                else:
                    latency[request] = now - came[request] + way
                    done += 1
                    if callers > 0 and back_tail < count:
                        back[back_tail] = now + way
                        back_tail += 1
            for index in range(instances):
                if machine_done[index] <= clock:
                    if machine_size[index] == _RESTING or (machine_size[index] == _WAKING and head == tail):
                        # Where it woke for nothing, an instance that woke earlier has taken everything.
                        machine_done[index] = NEVER
                        machines -= 1
                        continue
                    if machine_size[index] == _WAKING:
                        expired = delay > 0 and now - queued[waiting[head]] >= delay - 1e-9
                        taken = _take(min(tail - head, most), preferred, expired)
                        machine_first[index] = head
                        machine_size[index] = taken
                        for position in range(head, head + taken):
                            inside[position] = waiting[position]
                        head += taken
                        machine_done[index] = clock + (start + each * taken) * factors[batches % count]
                        batches += 1
                        continue
                    for position in range(machine_first[index], machine_first[index] + machine_size[index]):
                        line[_SERVER, line_tail[_SERVER]] = 2 * inside[position] + 1
                        line_tail[_SERVER] += 1
                    machine_size[index] = _RESTING
                    machine_done[index] = clock + rest
        # The batcher: Triton's GetDynamicBatch, for requests of equal size. Waking instances reserve their requests.
        timer = NEVER
        reserved = 0
        for index in range(instances):
            waking = machine_done[index] < NEVER and machine_size[index] == _WAKING
            if waking and head + reserved < tail:
                oldest = queued[waiting[head + reserved]]
                expired = delay > 0 and now - oldest >= delay - 1e-9
                reserved += _take(min(tail - head - reserved, most), preferred, expired)
        for index in range(instances):
            if machine_done[index] < NEVER or head + reserved >= tail:
                continue
            pending = min(tail - head - reserved, most)
            oldest = queued[waiting[head + reserved]]
            expired = delay > 0 and now - oldest >= delay - 1e-9
            if delay > 0 and not expired and pending < preferred[0]:
                timer = oldest + delay
                break
            machine_size[index] = _WAKING
            machine_done[index] = clock + wake
            machines += 1
            reserved += _take(pending, preferred, expired)
        for station in range(2):
            if station_done[station] == NEVER and line_head[station] < line_tail[station]:
                cost = sender / 2 if station == _CLIENT else front / 2 + (turn if now > station_free[station] else 0.0)
                station_done[station] = clock + cost
    return latency, batches, now, work
