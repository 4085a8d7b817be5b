"""The twin's event loop, compiled by numba; `twin.simulated` says what goes in.

Jobs that run progress at one common speed, so each is known by the reading of a common clock at which it will be done
(virtual time in processor sharing: Parekh and Gallager, IEEE/ACM Transactions on Networking 1, 1993).
"""

import numba
import numpy as np

NEVER = 1e18
CLIENT, SERVER = 0, 1  # the desks
RESTING, WAKING = 0, -1  # in place of the size of an instance's batch


@numba.njit(cache=True)
def take(pending, preferred, expired):  # type: ignore[no-untyped-def]
    """How many of those that wait make the next batch: the largest preferred size; all of them after the delay."""
    if expired:
        return pending
    fitting = 0
    for size in preferred:
        if size <= pending:
            fitting = size
    return fitting if fitting > 0 else pending


@numba.njit(cache=True)
def loop(arrivals, callers, host, batching, preferred, factors, away, lengths):  # type: ignore[no-untyped-def]
    """Every event in turn.

    Args:
        arrivals: [requests] moments, rising; of a closed loop their number alone counts.
        callers: of a closed loop; 0 for an open one.
        host: times of work and their like, in seconds; see `twin.Host`.
        batching: max_batch_size, queue delay in seconds, instances, threads of each.
        preferred: [sizes] preferred batch sizes, rising; max_batch_size alone where there are none.
        factors: [requests] by which the times of the batches, in turn, are longer than usual.
        away: [4096] moments at which the host goes away; they recur.
        lengths: [4096] for how long.

    Returns:
        [requests] latencies, the number of batches, the last moment, the work done, all in seconds.
    """
    cores, sender, front, turn, start, each, rest, wake, way = host
    most, delay, instances, threads = batching
    count = len(arrivals)
    came = np.zeros(count)  # when a request arrived
    queued = np.zeros(count)  # when it entered the batcher's queue
    latency = np.zeros(count)
    # The lines before the two desks, each of whom does one thing after the other: number, and one added on the way out.
    line = np.zeros((2, 2 * count + 1), np.int64)
    line_head = np.zeros(2, np.int64)
    line_tail = np.zeros(2, np.int64)
    desk_done = np.full(2, NEVER)
    desk_free = np.full(2, -1.0)  # when it had no more to do
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
    if callers > 0:
        for caller in range(min(callers, count)):
            back[back_tail] = caller * 1e-6
            back_tail += 1
    while done < count:
        # What comes next?
        wanted = machines * threads
        for desk in range(2):
            wanted += 1 if desk_done[desk] < NEVER else 0
        speed = 1.0 if wanted <= cores else cores / wanted
        soonest = min(desk_done[CLIENT], desk_done[SERVER])
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
            # The host is away: time passes, work does not.
            until = pause if pause > now else now
            clock += max(0.0, until - now) * speed
            work += max(0.0, until - now) * min(float(wanted), cores)
            now = until + lengths[stall % 4096]
            stall += 1
            # What should have come meanwhile comes now, and is counted from when it should.
            continue
        if finish <= step:
            work += (max(step, now) - now) * min(float(wanted), cores)
            clock = soonest  # As it stands in the jobs: a sum of steps would miss it by a rounding, for ever.
            now = max(step, now)
        elif step > now:
            clock += (step - now) * speed
            work += (step - now) * min(float(wanted), cores)
            now = step
        if arrival <= step:
            came[arrived] = arrival
            if callers > 0:
                back_head += 1
            line[CLIENT, line_tail[CLIENT]] = 2 * arrived
            line_tail[CLIENT] += 1
            arrived += 1
        elif finish <= step:
            for desk in range(2):
                if desk_done[desk] > clock:
                    continue
                ticket = line[desk, line_head[desk]]
                request, leaving = ticket // 2, ticket % 2 == 1
                line_head[desk] += 1
                desk_done[desk] = NEVER
                desk_free[desk] = now
                if (desk == CLIENT) != leaving:
                    # To the other desk.
                    line[1 - desk, line_tail[1 - desk]] = ticket
                    line_tail[1 - desk] += 1
                elif desk == SERVER:
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
                    if machine_size[index] == RESTING:
                        machine_done[index] = NEVER
                        machines -= 1
                        continue
                    if machine_size[index] == WAKING and head == tail:
                        # Another one that woke sooner has taken all.
                        machine_done[index] = NEVER
                        machines -= 1
                        continue
                    if machine_size[index] == WAKING:
                        expired = delay > 0 and now - queued[waiting[head]] >= delay - 1e-9
                        taken = take(min(tail - head, most), preferred, expired)
                        machine_first[index] = head
                        machine_size[index] = taken
                        for position in range(head, head + taken):
                            inside[position] = waiting[position]
                        head += taken
                        machine_done[index] = clock + (start + each * taken) * factors[batches % count]
                        batches += 1
                        continue
                    for position in range(machine_first[index], machine_first[index] + machine_size[index]):
                        line[SERVER, line_tail[SERVER]] = 2 * inside[position] + 1
                        line_tail[SERVER] += 1
                    machine_size[index] = RESTING
                    machine_done[index] = clock + rest
        # The batcher: Triton's GetDynamicBatch, for requests of equal size. What a waking instance will take is gone.
        timer = NEVER
        spoken = 0
        for index in range(instances):
            waking = machine_done[index] < NEVER and machine_size[index] == WAKING
            if waking and head + spoken < tail:
                oldest = queued[waiting[head + spoken]]
                expired = delay > 0 and now - oldest >= delay - 1e-9
                spoken += take(min(tail - head - spoken, most), preferred, expired)
        for index in range(instances):
            if machine_done[index] < NEVER or head + spoken >= tail:
                continue
            pending = min(tail - head - spoken, most)
            oldest = queued[waiting[head + spoken]]
            expired = delay > 0 and now - oldest >= delay - 1e-9
            if delay > 0 and not expired and pending < preferred[0]:
                timer = oldest + delay
                break
            machine_size[index] = WAKING
            machine_done[index] = clock + wake
            machines += 1
            spoken += take(pending, preferred, expired)
        for desk in range(2):
            if desk_done[desk] == NEVER and line_head[desk] < line_tail[desk]:
                cost = sender / 2 if desk == CLIENT else front / 2 + (turn if now > desk_free[desk] else 0.0)
                desk_done[desk] = clock + cost
    return latency, batches, now, work
