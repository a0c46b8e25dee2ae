//! The keys of the file as a whole, of `[global]` and of `[ipvs]`.

use super::router::{SYNC_GROUP, TRACK_SCRIPT, VRRP};
use super::server::VIRTUAL_SERVER;
use super::{
    ADDRESS, ADDRESS_AND_PORT, COMMAND, DAY, Form, HOUR, I32, INTERFACE, Key, Kind, NAME, PATH,
    SECOND, SOME_TEXT, TEXT, Table, URL, may, need, or,
};

/// The file.
pub static ROOT: Table = Table {
    doc: "The configuration of vipd, a load-balancer director.",
    one_of: &[],
    keys: &[
        may(
            "global",
            Kind::Table(&GLOBAL),
            "the defaults of its keys",
            "The daemon itself.",
        ),
        may(
            "ipvs",
            Kind::Table(&IPVS),
            "the defaults of its keys",
            "How the kernel's IPVS table is kept.",
        ),
        may(
            "sysctl",
            Kind::Table(&HOST),
            "the defaults of its keys",
            "Settings of the host that forwarding needs, beside those of IPVS.",
        ),
        may(
            "vrrp",
            Kind::Tables(&VRRP),
            "none",
            "Virtual routers: addresses that one of the directors holds.",
        ),
        may(
            "sync_group",
            Kind::Tables(&SYNC_GROUP),
            "none",
            "Virtual routers that are master together or not at all.",
        ),
        may(
            "track_script",
            Kind::Tables(&TRACK_SCRIPT),
            "none",
            "Programs whose exit code `track` follows.",
        ),
        may(
            "virtual_server",
            Kind::Tables(&VIRTUAL_SERVER),
            "none",
            "Virtual servers: IPVS services and their real servers.",
        ),
        may(
            "notify",
            Kind::Tables(&NOTIFY),
            "none",
            "Who is told of events, by a program or by a webhook.",
        ),
    ],
};

static GLOBAL: Table = Table {
    doc: "The daemon itself.",
    one_of: &[],
    keys: &[
        may(
            "name",
            NAME,
            "the host name",
            "What this director calls itself in status, events and logs.",
        ),
        or(
            "control_socket",
            PATH,
            "\"/run/vipd/control.sock\"",
            "The unix socket of vipctl; at most 107 bytes.",
        ),
        may(
            "http",
            ADDRESS_AND_PORT,
            "off",
            "Listener of metrics and the read-only API. It has no authentication: a loopback address, unless `http_public` says otherwise.",
        ),
        or(
            "http_public",
            Kind::Boolean,
            "false",
            "Whether `http` may be an address that others reach: whoever reaches it reads status, events and metrics.",
        ),
        or(
            "state_dir",
            PATH,
            "\"/var/lib/vipd\"",
            "Where state that outlives the daemon is kept.",
        ),
    ],
};

static HOST: Table = Table {
    doc: "Settings of the host that forwarding needs, beside those of IPVS.",
    one_of: &[],
    keys: &[or(
        "manage",
        Kind::Boolean,
        "true",
        "Whether vipd sets what NAT needs (forwarding on, redirects off) and gives it back on a stop; false: it only says what is missing.",
    )],
};

static IPVS: Table = Table {
    doc: "How the kernel's IPVS table is kept.",
    one_of: &[],
    keys: &[
        or(
            "resync_interval",
            Kind::Duration(100, HOUR),
            "\"10s\"",
            "How often the kernel's table is compared with what it should be, and mended.",
        ),
        or(
            "on_stop",
            Kind::Word(&["remove", "keep"]),
            "\"remove\"",
            "On a graceful stop: remove the daemon's entries, or leave them to forward on without it.",
        ),
        may(
            "timeouts",
            Kind::Table(&TIMEOUTS),
            "the kernel's",
            "How long the kernel remembers silent connections.",
        ),
        may(
            "sysctl",
            Kind::Table(&SYSCTL),
            "the defaults of its keys",
            "Settings under net.ipv4.vs, given back on a stop.",
        ),
        may(
            "sync",
            Kind::Table(&SYNC),
            "off",
            "Connections are told to the other director, so that they survive a failover.",
        ),
    ],
};

const TIMEOUT: Kind = Kind::Duration(SECOND, 31 * DAY);

static TIMEOUTS: Table = Table {
    doc: "How long the kernel remembers silent connections, in whole seconds.",
    one_of: &[],
    keys: &[
        may(
            "tcp",
            TIMEOUT,
            "the kernel's (15m)",
            "An established connection. Longer than what clients leave idle, or they find their connection gone.",
        ),
        may(
            "tcp_fin",
            TIMEOUT,
            "the kernel's (2m)",
            "A connection after the first FIN.",
        ),
        may(
            "udp",
            TIMEOUT,
            "the kernel's (5m)",
            "After a datagram, the next from the same port goes to the same real server.",
        ),
    ],
};

const SWITCH: Kind = Kind::Either(&[Kind::Boolean, Kind::Integer(0, 1)]);

/// A setting that vipd leaves alone unless it is written.
const fn setting(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    may(name, kind, "left alone", doc)
}

static SYSCTL: Table = Table {
    doc: "Settings under net.ipv4.vs in this network namespace, while there are virtual servers.",
    one_of: &[],
    keys: &[
        or(
            "expire_nodest_conn",
            SWITCH,
            "true",
            "Packets of a connection whose real server is gone end it at once; off: they vanish for up to `timeouts.tcp`.",
        ),
        or(
            "expire_quiescent_template",
            SWITCH,
            "true",
            "A persistent client of a real server with weight 0 gets another one.",
        ),
        or(
            "sync_threshold",
            Kind::List(&Kind::Integer(0, I32)),
            "[2, 50]",
            "[threshold, period]: the packet of a connection with which it is synchronised, and each how many it is again.",
        ),
        may(
            "conntrack",
            SWITCH,
            "true with full NAT, else left alone",
            "Connections of IPVS are seen by connection tracking. Costs; full NAT needs it.",
        ),
        setting(
            "conn_reuse_mode",
            Kind::Integer(0, 3),
            "What happens when a client takes the port of a connection that is closing.",
        ),
        setting(
            "sync_refresh_period",
            Kind::Integer(0, 2_000_000),
            "Synchronise a busy connection again after so many seconds.",
        ),
        setting(
            "sync_retries",
            Kind::Integer(0, 3),
            "How often such a message is repeated.",
        ),
        setting(
            "sync_ports",
            Kind::Integer(1, 64),
            "Threads, each with a port; the same on both directors.",
        ),
        setting(
            "sync_qlen_max",
            Kind::Integer(0, I32),
            "Messages that wait to be sent; more are lost.",
        ),
        setting(
            "sync_sock_size",
            Kind::Integer(0, I32),
            "Socket buffer of the synchronisation, bytes; 0: the system's.",
        ),
        setting(
            "sync_persist_mode",
            SWITCH,
            "Persistence templates are synchronised, not their connections; with `sloppy_tcp`.",
        ),
        setting(
            "sync_version",
            Kind::Integer(0, 1),
            "Format of the messages.",
        ),
        setting(
            "sloppy_tcp",
            SWITCH,
            "Take up a TCP connection in the middle: with `mh` or `sh` on both directors, connections survive a failover without synchronisation.",
        ),
        setting("sloppy_sctp", SWITCH, "The same for SCTP."),
        setting(
            "backup_only",
            SWITCH,
            "A director that only receives synchronisation does not forward.",
        ),
        setting("schedule_icmp", SWITCH, "ICMP makes connections, too."),
        setting(
            "ignore_tunneled",
            SWITCH,
            "Packets that came out of a tunnel are not taken.",
        ),
        setting(
            "pmtu_disc",
            SWITCH,
            "Clients are told what fits through a tunnel; off: large packets are fragmented.",
        ),
        setting(
            "nat_icmp_send",
            SWITCH,
            "A real server behind nat is told when IPVS knows nothing of its packet.",
        ),
        setting(
            "snat_reroute",
            SWITCH,
            "Answers are routed by their new source address.",
        ),
        setting(
            "cache_bypass",
            SWITCH,
            "Without a real server the client's packet goes where it wanted to.",
        ),
        setting(
            "drop_entry",
            Kind::Integer(0, 3),
            "Defence, connections: 0 never, 1 and 2 when memory is short, 3 always.",
        ),
        setting(
            "drop_packet",
            Kind::Integer(0, 3),
            "Defence, packets: 0 never, 1 and 2 when memory is short, 3 always.",
        ),
        setting(
            "secure_tcp",
            Kind::Integer(0, 3),
            "Defence, stricter TCP states: 0 never, 1 and 2 when memory is short, 3 always.",
        ),
        setting(
            "amemthresh",
            Kind::Integer(0, I32),
            "Less free memory than that is short, pages.",
        ),
        setting(
            "am_droprate",
            Kind::Integer(1, I32),
            "Each how many packets one is dropped, with `drop_packet = 3`.",
        ),
        setting(
            "run_estimation",
            SWITCH,
            "Off: every counter and metric of IPVS stands still.",
        ),
        setting(
            "est_cpulist",
            Kind::Text(&Form {
                name: "list of CPUs",
                pattern: "^[0-9,-]+$",
            }),
            "The CPUs of the threads that count, \"0-3,8\"; kernel 6.2 and later.",
        ),
        setting(
            "est_nice",
            Kind::Integer(-20, 19),
            "The niceness of the threads that count; kernel 6.2 and later.",
        ),
    ],
};

static SYNC: Table = Table {
    doc: "The synchronisation of connections; the same on both directors but for the interface.",
    one_of: &[],
    keys: &[
        need(
            "interface",
            INTERFACE,
            "The link to the peer. What goes over it is neither authenticated nor encrypted: use a private link.",
        ),
        need(
            "id",
            Kind::Integer(0, 255),
            "Directors of one id tell each other. 0: the kernel takes in what directors of any id tell.",
        ),
        or(
            "group",
            ADDRESS,
            "\"224.0.0.81\"",
            "The multicast group of the kernel's daemons and of vipd.",
        ),
        or(
            "port",
            Kind::Integer(1, 65534),
            "8848",
            "UDP port of the kernel's daemons; vipd's own datagrams use the next one.",
        ),
        or(
            "ttl",
            Kind::Integer(1, 255),
            "1",
            "TTL or hop limit; 1: the packets stay on the link.",
        ),
        may(
            "max_length",
            Kind::Integer(1024, 65487),
            "what fits the interface",
            "The longest datagram, bytes. Less where the link's MTU is below 1500.",
        ),
        or(
            "full_table",
            Kind::Boolean,
            "true",
            "vipd sends the peer the whole table by itself: when the peer comes up and every `refresh`.",
        ),
        or(
            "refresh",
            Kind::Duration(0, HOUR),
            "\"30s\"",
            "How often the whole table is sent without any occasion; 0s: never, else at least 1s.",
        ),
    ],
};

static NOTIFY: Table = Table {
    doc: "Who is told of events, by a program or by a webhook.",
    one_of: &["command", "webhook"],
    keys: &[
        may(
            "name",
            NAME,
            "\"notify-N\", N its place in the file",
            "Unique; metrics and events about it name it.",
        ),
        need(
            "events",
            Kind::List(&TEXT),
            "Kinds of events; `*` stands for any characters: [\"vrrp.*\", \"quorum.lost\"].",
        ),
        may(
            "objects",
            Kind::List(&SOME_TEXT),
            "all",
            "Of these objects only, `*` as above; a virtual server stands for its real servers, too.",
        ),
        or(
            "timeout",
            Kind::Duration(100, 600 * SECOND),
            "\"10s\"",
            "When a command is killed with all its children, and a webhook counts as failed.",
        ),
        may(
            "command",
            COMMAND,
            "none",
            "The program by its absolute path, and its arguments; no shell. It gets the event as JSON on standard input and as VIPD_* variables.",
        ),
        or("user", SOME_TEXT, "\"nobody\"", "Who runs the command."),
        or(
            "keepalived_arguments",
            Kind::Boolean,
            "false",
            "The command gets INSTANCE (of a sync group GROUP) NAME STATE PRIORITY behind its own arguments, as keepalived's notify scripts do.",
        ),
        may(
            "webhook",
            URL,
            "none",
            "Where events are posted to as JSON, until a 2xx answer takes them.",
        ),
        or(
            "headers",
            Kind::Map(&TEXT),
            "{}",
            "Further headers of the request.",
        ),
    ],
};
