"""Whether a latency measured now would be the machine's own: governor, heat, throttling, power supply, load."""

from __future__ import annotations

from edgevit.benchreport import Machine, SensorReading
from edgevit.board.raspberrypi import HAS_OCCURRED
from edgevit.board.validity import COOL, SET_GOVERNOR, SUPPLY, moving_governors, throttle_fix
from edgevit.doctor.finding import Finding, note, ok, problem, warning
from edgevit.machine.facts import Facts

# A Raspberry Pi throttles from 80 degrees; idle and already at 70 there is no room for a measurement.
HOT_C = 70.0
BUSY_SHARE = 0.25
BUSY_PRESSURE_PERCENT = 5.0
# A Pi calls it under-voltage below 4.63 V. Behind its protection a good 5 V supply reads about 4.9 V.
# Source: https://github.com/PierreGode/Ragnar/pull/315
TRIP_V, WEAK_V = 4.63, 4.8


def check_facts_calm(facts: Facts) -> tuple[Finding, ...]:
    return (
        *check_calm(facts.sensors, facts.machine),
        *check_since_boot(facts),
        *check_supply(facts),
        check_power_sensor(facts),
    )


def check_calm(sensors: SensorReading, machine: Machine) -> tuple[Finding, ...]:
    findings = [check_governor(sensors)]
    if sensors.throttled:
        now = [flag for flag in sensors.throttle_flags if not flag.endswith(HAS_OCCURRED)]
        findings.append(problem(f"The CPU is throttled now ({', '.join(now)}).", f"{_begin(throttle_fix(now))}."))
    if sensors.temperature_c is not None:
        if sensors.temperature_c >= HOT_C:
            what = f"The CPU is at {sensors.temperature_c:.0f} °C, close to throttling."
            findings.append(warning(what, f"{_begin(COOL)}."))
        else:
            findings.append(ok(f"The CPU is at {sensors.temperature_c:.0f} °C."))
    if sensors.load_1min is not None:
        load = f"The load is {sensors.load_1min:.1f} on {machine.cores} cores"
        if sensors.load_1min > BUSY_SHARE * machine.cores:
            what = f"{load}: other programs would be in every latency measured now."
            findings.append(warning(what, "ps aux --sort=-pcpu | head"))
        else:
            findings.append(ok(f"{load}."))
    if sensors.pressure_percent is not None and sensors.pressure_percent > BUSY_PRESSURE_PERCENT:
        what = f"Programs waited for a processor {sensors.pressure_percent:.0f} % of the last ten seconds."
        findings.append(warning(what, "ps aux --sort=-pcpu | head"))
    return tuple(findings)


def check_governor(sensors: SensorReading) -> Finding:
    if sensors.governor is None:
        return note("The CPU's governor cannot be seen (a virtual machine or a container).")
    moving = moving_governors(sensors.model_dump())
    if not moving:
        return ok(f"The CPU's governor is {sensors.governor}: its clock stands still.")
    return warning(
        f"The CPU's governor is {' and '.join(moving)}: its clock moves, and a run measured so is called invalid.",
        SET_GOVERNOR,
    )


def check_since_boot(facts: Facts) -> tuple[Finding, ...]:
    """What has happened since boot, though it is over: it will come again under load."""
    past = [flag[: -len(HAS_OCCURRED)] for flag in facts.sensors.throttle_flags if flag.endswith(HAS_OCCURRED)]
    findings = []
    if past:
        what = f"Since it booted, the board has had: {', '.join(past)}. It will come again under load."
        findings.append(warning(what, f"{_begin(throttle_fix(past))}; then reboot, which clears it."))
    elif facts.sensor_kind == "raspberry-pi" and facts.sensors.throttled is not None:
        findings.append(ok("The board has not throttled since it booted."))
    if facts.throttle_count:
        what = f"The processor has throttled {facts.throttle_count} times since it booted."
        findings.append(warning(what, f"{_begin(COOL)}."))
    return tuple(findings)


def check_supply(facts: Facts) -> tuple[Finding, ...]:
    volts = facts.supply_v
    if volts is None:
        return ()
    if volts >= WEAK_V:
        return (ok(f"The power supply gives {volts:.2f} V."),)
    what = f"The power supply gives {volts:.2f} V: "
    if volts < TRIP_V:
        return (problem(what + f"the board slows down below {TRIP_V} V.", f"{_begin(SUPPLY)}."),)
    return (warning(what + "it may fall too low under load.", f"{_begin(SUPPLY)}."),)


def check_power_sensor(facts: Facts) -> Finding:
    if facts.power_sensor:
        return ok(f"Energy is measured by {facts.power_sensor}.")
    return note(f"Energy per inference is not available: {facts.power_missing or 'no sensor'}.")


def _begin(words: str) -> str:
    return words[:1].upper() + words[1:]
