#!/bin/bash
# Runs in a fresh Debian with systemd as its init; /trial has the packages. Each step says `ok: ...` or
# `FAILED: ...`.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
cd /
step() {
	local what=$1
	shift
	if "$@" >/tmp/step.log 2>&1; then
		echo "ok: $what"
	else
		echo "FAILED: $what"
		sed 's/^/    /' /tmp/step.log | tail -30
		journalctl -q -u vipd -n 8 --no-pager | sed 's/^/    /'
	fi
}
# Until it is true, for a minute.
wait_for() {
	local begin=$SECONDS
	until "$@"; do
		[ $((SECONDS - begin)) -lt 60 ] || return 1
		sleep 0.1
	done
}
not() { ! "$@"; }
pid() { systemctl show -P MainPID vipd; }
active() { [ "$(systemctl is-active vipd)" = active ]; }
# Everything on this host that a package could leave.
everything() {
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /trial -o -path /tmp \
		-o -path /var/tmp -o -path /var/log/journal -o -path '/var/cache/*' -o -path /var/lib/dpkg/info \
		-o -path /root \) -prune -o -printf '%p %m %u %g\n' | grep -v -E '^(/var/log/|/var/lib/dpkg|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-? )'
	cut -d: -f1 /etc/passwd /etc/group
	ls -A /run/systemd/system /run/vipd 2>/dev/null
	find /var/lib/dpkg/info -name 'vipd*'
	dpkg-query -W vipd 2>/dev/null
}
network() { ip -o link; ip -o addr; ip rule; ip route show table all; nft list ruleset; sysctl -a 2>/dev/null | grep -E '^net\.' | grep -v -E 'nf_conntrack_count|dst_entries|neigh'; }
refused() { [ "$(journalctl -q -u vipd | grep -c 'reload refused, nothing changed')" = "$1" ]; }
holds() { ip -o addr | grep -q -F 10.99.0.10/; }
status() { grep -E "^$1:" "/proc/$(pid)/status" | cut -f2 | tr -d ' '; }
locked() { [ "$(status VmLck)" != 0kB ]; }
is() { [ "$1" = "$2" ] || { echo "is $1, should be $2"; return 1; }; }
doctor() { vipd doctor -c /etc/vipd/vipd.toml; }
# Exactly this code, or none.
finds() { is "$(doctor | grep -o -E '^(VIP|CFG)-[A-Z0-9-]+' | sort -u | xargs)" "$1" || { doctor; return 1; }; }
# Carries out the command that doctor prints.
mend() { eval "$(doctor | sed -n 's/^  remedy  on this director: //p')"; }
without_any_director_nobody_holds_the_address() {
	systemctl stop vipd &&
		finds VIP-ARP-004 &&
		mend &&
		wait_for holds &&
		finds ''
}

everything | sort >/tmp/before
network >/tmp/network-before
step "dpkg installs it" dpkg -i /trial/1.deb
step "it runs after the installation" wait_for active
step "it is enabled" systemctl is-enabled vipd
sleep 1
network >/tmp/network-after
step "its first configuration changes nothing on the network" diff /tmp/network-before /tmp/network-after
step "its first configuration listens on nothing" bash -c '! ss -Hltun | grep .'
step "vipctl status answers" vipctl status
step "the control socket is for root and the group vipd" bash -c '[ "$(stat -c "%a %G" /run/vipd/control.sock)" = "660 vipd" ]'
step "the configuration is for root and the group vipd" bash -c '[ "$(stat -c "%a %U %G" /etc/vipd/vipd.toml)" = "640 root vipd" ]'
step "it runs as vipd" is "$(ps -o user= -p "$(pid)")" vipd
# CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW: bits 10, 12, 13.
for set in CapEff CapPrm CapBnd; do
	step "it has three capabilities and no more ($set)" is "$(status $set)" 0000000000003400
done
step "what it starts inherits none" is "$(status CapAmb)" 0000000000000000
step "no new privileges" is "$(status NoNewPrivs)" 1
step "a filter of system calls" is "$(status Seccomp)" 2
step "exposure at most 2.5" systemd-analyze security --threshold=25 --no-pager vipd
# Where this system may raise limits at all (a container need not).
if prlimit --rtprio=1:1 --memlock=unlimited:unlimited true 2>/dev/null; then
	step "no warning in its journal" bash -c '! journalctl -q -u vipd -p warning | grep .'
	step "its adverts have real-time priority" bash -c "chrt -a -p $(pid) | grep -q SCHED_RR"
	step "its memory is locked once it has settled" wait_for locked
fi
for page in "man8/vipd.8" "man8/vipctl.8" "man5/vipd.toml.5"; do
	step "there is $page" test -s "/usr/share/man/$page.gz" -o ! -d /usr/share/man/man8
done

# A director with all that needs rights: a virtual MAC, nftables, a route and a rule, a key from a
# credential, a script, and where the kernel has it, IPVS.
ip link add lan0 type veth peer name lan1
ip addr add 10.99.0.1/24 dev lan0
ip link set lan0 up
ip link set lan1 up
cat >/usr/local/bin/trial-check <<'CHECK'
#!/bin/sh
# Well while it has no rights but is this user.
grep -q -E '^Cap(Eff|Prm|Amb):.*[1-9a-f]' /proc/self/status && exit 1
[ "$(id -un)" = "$(cat /etc/trial-user)" ]
CHECK
chmod 755 /usr/local/bin/trial-check
echo vipd >/etc/trial-user
umask 077
echo hex:$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n') >/root/vrrp.key
umask 022
mkdir -p /etc/systemd/system/vipd.service.d
printf '[Service]\nLoadCredential=vrrp:/root/vrrp.key\n' >/etc/systemd/system/vipd.service.d/key.conf
cp -p /etc/vipd/vipd.toml /tmp/first.toml
cat >>/etc/vipd/vipd.toml <<'CONFIG'
[[track_script]]
name = "rights"
command = ["/usr/local/bin/trial-check"]
interval = "20s"
timeout = "20s"

[[vrrp]]
name = "web"
interface = "lan0"
vrid = 51
version = 3
priority = 150
advert_interval = "100ms"
accept = false
virtual_mac = { interface = "vrrp.51" }
virtual_addresses = ["10.99.0.10/24"]
virtual_routes = [{ to = "10.98.0.0/16", via = "10.99.0.77", table = 99 }]
virtual_rules = [{ priority = 99, from = "10.99.0.10", table = 99 }]
authentication = { type = "hmac", key_id = 1, key = "credential:vrrp" }
track = [{ script = "rights" }]
CONFIG
if [ -e /proc/net/ip_vs ]; then
	ipvs=yes
	cat >>/etc/vipd/vipd.toml <<'CONFIG'

[[virtual_server]]
name = "http"
address = "10.99.0.10:80"
vrrp = "web"
scheduler = "lblcr"
forwarding = "nat"
[[virtual_server.real_server]]
address = "10.99.0.21:80"
CONFIG
fi
systemctl daemon-reload
systemctl reload vipd
step "a reload without the credential is refused" wait_for refused 1
step "and the daemon goes on" active
step "a restart hands the credential over" systemctl restart vipd
step "it becomes master, with the script's consent" wait_for holds
step "the virtual MAC is there" wait_for bash -c 'ip link show vrrp.51 | grep -q 00:00:5e:00:01:33'
step "nftables rules are there" wait_for nft list table inet vipd
step "the route is there" wait_for bash -c 'ip route show table 99 | grep -q 10.98.0.0/16'
step "nothing is refused" bash -c "! journalctl -q _PID=$(pid) | grep -v -E 'real-time|not locked' | grep -i -E 'not permitted|permission denied|read-only'"
[ -z "$ipvs" ] || step "IPVS has the service" wait_for grep -q lblcr /proc/net/ip_vs
cut -c5-40 /root/vrrp.key >/tmp/key
step "no key in the status, the log or the command lines" bash -c '! { vipctl status --json; vipctl debug dump; journalctl -q -u vipd; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; } 2>/dev/null | grep -a -F -f /tmp/key'

cp /etc/vipd/vipd.toml /tmp/good.toml
sed -i 's/priority = 150/priority = 120/' /etc/vipd/vipd.toml
step "it reloads" systemctl reload vipd
step "and does what it says" wait_for bash -c 'vipctl status --json | grep -q "\"priority\": *120"'
echo 'nonsense = 1' >>/etc/vipd/vipd.toml
systemctl reload vipd
step "a bad file is refused" wait_for refused 2
step "and it goes on" wait_for holds
cp /tmp/good.toml /etc/vipd/vipd.toml
step "the good one is taken again" systemctl reload vipd

# systemd 252 gives credentials to no ExecStopPost=: `vipd release` has the key from a file.
install -m 600 -o vipd /root/vrrp.key /etc/vipd/vrrp.key
sed -i 's,credential:vrrp,file:/etc/vipd/vrrp.key,' /etc/vipd/vipd.toml
cp /etc/vipd/vipd.toml /tmp/good.toml
step "a key from a file" systemctl restart vipd
step "does the same" wait_for holds
step "doctor has vipd started where nobody holds the address" without_any_director_nobody_holds_the_address
old=$(pid)
[ "$old" = 0 ] || kill -KILL "$old"
step "after SIGKILL it is started again" wait_for bash -c "[ \"\$(systemctl show -P MainPID vipd)\" != $old ] && [ \"\$(systemctl is-active vipd)\" = active ]"
step "its guard had told the peers and removed what it held" bash -c 'journalctl -q -u vipd | grep -q "is dead: sent .* of priority 0 and removed"'
step "it is master again" wait_for holds

mkdir -p /etc/systemd/system/vipd.service.d
cp /usr/share/doc/vipd/examples/scripts.conf /etc/systemd/system/vipd.service.d/
echo nobody >/etc/trial-user
sed -i 's/^name = "rights"/&\nuser = "nobody"/' /etc/vipd/vipd.toml
step "with scripts.conf" bash -c 'systemctl daemon-reload && systemctl restart vipd'
step "a script runs as nobody, without rights" wait_for holds
rm /etc/systemd/system/vipd.service.d/scripts.conf
step "without it" bash -c 'systemctl daemon-reload && systemctl restart vipd'
step "the status says why it does not" wait_for bash -c 'vipctl status | grep -q "may not run programs as another user"'
cp /tmp/good.toml /etc/vipd/vipd.toml
echo vipd >/etc/trial-user
step "and all is well again" bash -c 'systemctl reload vipd'
step "with its address" wait_for holds

# An instance in a network namespace of its own.
red() { systemctl show -P "$1" vipd@red; }
red_holds() { ip -n red -o addr | grep -q -F 10.97.0.10/; }
ip netns add red
ip -n red link add lan0 type veth peer name lan1
ip -n red addr add 10.97.0.1/24 dev lan0
ip -n red link set lan0 up
ip -n red link set lan1 up
cat >/etc/vipd/red.toml <<'CONFIG'
[global]
control_socket = "/run/vipd-red/control.sock"
state_dir = "/var/lib/vipd-red"
[[vrrp]]
name = "red"
interface = "lan0"
vrid = 51
version = 3
priority = 150
advert_interval = "100ms"
virtual_addresses = ["10.97.0.10/24"]
CONFIG
chgrp vipd /etc/vipd/red.toml
chmod 640 /etc/vipd/red.toml
step "an instance starts in its namespace" systemctl start vipd@red
step "and is master there" wait_for red_holds
red_old=$(red MainPID)

old=$(pid)
restarts=$(systemctl show -P NRestarts vipd)
ip -o monitor address >/tmp/monitor &
monitor=$!
step "dpkg upgrades it" dpkg -i /trial/2.deb
step "it runs after the upgrade" wait_for active
step "a new process" not is "$(pid)" "$old"
step "which took over from the one before" bash -c "journalctl -q _PID=$(pid) | grep -q 'goes on in the place of the one before'"
step "with three capabilities and no more" is "$(status CapEff)" 0000000000003400
step "the address never left" not grep -q 'Deleted.*10.99.0.10/' /tmp/monitor
sleep 11
step "the watchdog is fed" active
step "the instance is another process" not is "$(red MainPID)" "$red_old"
step "which took over from the one before" bash -c "journalctl -q _PID=$(red MainPID) | grep -q 'goes on in the place of the one before'"
step "in the same namespace" is "$(readlink "/proc/$(red MainPID)/ns/net")" "$(ip netns exec red readlink /proc/self/ns/net)"
step "its watchdog is fed, and nothing was restarted" bash -c '[ "$(systemctl is-active vipd@red)" = active ] && [ "$(systemctl show -P NRestarts vipd@red)" = 0 ]'
step "it has its address" red_holds
step "and systemd had nothing to restart" bash -c "[ \$(systemctl show -P NRestarts vipd) = $restarts ]"
kill $monitor
step "the configuration is as it was left" cmp /etc/vipd/vipd.toml /tmp/good.toml
step "it is master after the upgrade" wait_for holds

step "dpkg removes it" dpkg -r vipd
step "it does not run" not active
step "nor does the instance" not systemctl is-active vipd@red
step "nor has it its address" not red_holds
step "the address is gone" not holds
step "the interface is gone" not ip link show vrrp.51
step "the table is gone" not nft list table inet vipd
step "its configuration stays" cmp /etc/vipd/vipd.toml /tmp/good.toml
step "dpkg installs it again" dpkg -i /trial/2.deb
step "it is master again" wait_for holds
rm -r /etc/systemd/system/vipd.service.d /usr/local/bin/trial-check /etc/trial-user
step "dpkg purges it" dpkg -P vipd
ip link del lan0
ip netns del red
rm -rf /var/lib/vipd-red
systemctl daemon-reload
everything | sort >/tmp/after
step "nothing is left" diff /tmp/before /tmp/after
step "no unit of it is known" bash -c '! systemctl list-units --all --plain --no-legend "vipd*" | grep .'

if [ -e /trial/rpm ]; then
	step "systemd knows the unit of the RPM" systemctl cat vipd
fi
echo done
