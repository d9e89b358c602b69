#!/usr/bin/env bash
# A shared subscription of mosquitto gives each member its part, also those that are not connected.
#
# Version    mosquitto 2.0.11 (Debian 12), MQTT 5; paho-mqtt 2.2.0 as the client.
# Behaviour  Two clients with sessions share $share/g/t; one disconnects. Of ten messages of QoS 1 the one that is there gets five. The other five wait for the
#            one that is away, an hour or whatever its session lasts, and come when it is back.
# Guess      A shared subscription is a queue of work: who is there gets it. MQTT 5 leaves it to the server which session of the group gets a message.
# Matters    One worker of two that is restarted, or gone for good, holds up half of the work, with no error at either end, until its session expires. Workers
#            should connect with a clean session, or with a session expiry of seconds.

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



here, away = connect("here"), connect("away")
for client in here, away:
    subscribe(client, "$share/g/t")
gone = threading.Event()
away.on_disconnect = lambda *_: gone.set()
away.disconnect()
assert gone.wait(20)
away.loop_stop()
sender = connect("sender")
for message in [sender.publish("t", str(number), 1) for number in range(10)]:
    message.wait_for_publish(20)
wait_until(lambda: len(here.got) >= 5)
time.sleep(0.5)
print("the one that is there:", len(here.got))
back = connect("away")
wait_until(lambda: len(back.got) >= 5)
print("the other, when it is back:", len(back.got))
END
seen=$(venv/bin/python asked.py "$port")

expected=$(cat <<'END'
the one that is there: 5
the other, when it is back: 5
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
