#!/usr/bin/env bash
# mosquitto confirms each message of QoS 1 with Success, and drops those beyond 1,020 for a subscriber that is connected and slow.
#
# Version    mosquitto 2.0.11 (Debian 12), MQTT 5, as it comes (max_inflight_messages 20, max_queued_messages 1000); paho-mqtt 2.2.0 as the client.
# Behaviour  A connected subscriber does not confirm for a while. 2,000 messages are published with QoS 1: each has PUBACK with the reason Success. Then the
#            subscriber confirms: it gets the first 1,020, and never the others. MQTT 5 has a reason for it, 0x97 "Quota exceeded"; the log has one line.
# Guess      At least once, while the connection lasts: the publisher is slowed down, or told.
# Matters    A consumer that is held up for a second under load loses messages that their publisher knows to be delivered. Set max_queued_messages (and
#            max_queued_bytes) to what memory allows, and number the messages, so that gaps are seen.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
which mosquitto >/dev/null || apt-get install --quiet=2 --yes --no-install-recommends mosquitto >/dev/null 2>&1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check paho-mqtt==2.2.0
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n' "$port" >conf
mosquitto -c conf >log 2>&1 &
trap 'kill %1; rm -rf "$work"' EXIT
until (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done

cat >asked.py <<'END'
import sys, threading, time
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def connect(name, **manner):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5, **manner)
    client.got, client.held, done = [], [], threading.Event()

    def came(client, _, message):
        client.got.append(int(message.payload))
        client.held.append(message)

    client.on_message = came
    client.on_connect = client.on_subscribe = lambda *_: done.set()
    kept = Properties(PacketTypes.CONNECT)
    kept.SessionExpiryInterval = 3600
    client.connect("127.0.0.1", int(sys.argv[1]), clean_start=False, properties=kept)
    client.loop_start()
    assert done.wait(20)
    done.clear()
    client.done = done
    return client


def subscribe(client, topic):
    client.subscribe(topic, 1)
    assert client.done.wait(20)


def wait_until(met):
    until = time.monotonic() + 20
    while not met() and time.monotonic() < until:
        time.sleep(0.02)



slow = connect("slow", manual_ack=True)
subscribe(slow, "t")
sender, told = connect("sender"), []
sender.on_publish = lambda client, _, number, reason, properties: told.append(str(reason))
for message in [sender.publish("t", str(number), 1) for number in range(2000)]:
    message.wait_for_publish(60)
print("confirmed to the publisher:", len(told), set(told))
until = time.monotonic() + 3
while time.monotonic() < until:
    if slow.held:
        until = time.monotonic() + 3
    while slow.held:
        message = slow.held.pop(0)
        slow.ack(message.mid, message.qos)
    time.sleep(0.01)
print("came to the subscriber:", len(slow.got), "the last is number", slow.got[-1])
END
seen=$(venv/bin/python asked.py "$port")

expected=$(cat <<'END'
confirmed to the publisher: 2000 {'Success'}
came to the subscriber: 1020 the last is number 1019
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
