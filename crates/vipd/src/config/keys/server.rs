//! The keys of `[[virtual_server]]` and its real servers.

use super::check::CHECK;
use super::{
    ADDRESS, ADDRESS_AND_PORT, ADDRESS_OR_PORT, DAY, Form, HOUR, I32, Kind, NAME, PORT, SECOND,
    TEXT, Table, U32, may, need, or,
};

const PROTOCOL: Kind = Kind::Word(&["tcp", "udp", "sctp"]);
const FORWARDING: Kind = Kind::Word(&["dr", "nat", "tun", "fullnat"]);
const REQUIRE: Kind = Kind::Word(&["all", "any"]);
const CHECKS: Kind = Kind::List(&Kind::Table(&CHECK));

pub(super) static VIRTUAL_SERVER: Table = Table {
    doc: "An IPVS service and its real servers.",
    one_of: &["address", "addresses", "fwmark"],
    keys: &[
        need("name", NAME, "Unique among the virtual servers."),
        may(
            "address",
            ADDRESS_AND_PORT,
            "this, `addresses` or `fwmark`",
            "What clients connect to. Port 0 is every port, and needs `persistence`.",
        ),
        may(
            "addresses",
            Kind::List(&ADDRESS_AND_PORT),
            "this, `address` or `fwmark`",
            "Several addresses with one port, of one or both families: one pool, one quorum.",
        ),
        may(
            "fwmark",
            Kind::Integer(1, U32),
            "this, `address` or `addresses`",
            "Packets with this firewall mark, instead of an address.",
        ),
        may(
            "mark",
            Kind::List(&Kind::Table(&MARK)),
            "none",
            "With `fwmark`: which packets vipd gives the mark, with nftables.",
        ),
        or(
            "protocol",
            PROTOCOL,
            "\"tcp\"",
            "Not with `fwmark`, which stands for every protocol.",
        ),
        may(
            "vrrp",
            TEXT,
            "none",
            "The name of the `[[vrrp]]` that holds the address.",
        ),
        or(
            "active",
            Kind::Word(&["always", "master"]),
            "\"always\"",
            "In the kernel's table of both directors, or only while that virtual router is master here (needs `vrrp`).",
        ),
        or(
            "scheduler",
            Kind::Word(&[
                "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf",
                "mh", "twos",
            ]),
            "\"wlc\"",
            "Which real server gets the next connection.",
        ),
        may(
            "scheduler_flags",
            Kind::List(&Kind::Word(&[
                "sh-fallback",
                "sh-port",
                "mh-fallback",
                "mh-port",
            ])),
            "the fallback flag with sh and mh",
            "With `sh` and `mh`: hash the port, too; try the next server where the hashed one has weight 0.",
        ),
        or(
            "forwarding",
            FORWARDING,
            "\"dr\"",
            "How packets reach real servers: direct routing, NAT, a tunnel, or NAT of both addresses.",
        ),
        or(
            "tunnel",
            Kind::Table(&TUNNEL),
            "{ type = \"ipip\" }",
            "How \"tun\" encapsulates.",
        ),
        may(
            "persistence",
            Kind::Table(&PERSISTENCE),
            "none",
            "Clients stay on one real server.",
        ),
        or(
            "one_packet",
            Kind::Boolean,
            "false",
            "Every datagram is scheduled by itself; UDP and firewall marks only.",
        ),
        or(
            "quorum",
            Kind::Integer(1, U32),
            "1",
            "Sum of the weights of healthy real servers that is needed; with less, the sorry server takes every new connection.",
        ),
        or(
            "hysteresis",
            Kind::Integer(0, U32),
            "0",
            "Quorum, once lost, is gained at `quorum + hysteresis`, and lost below `quorum - hysteresis`. Below `quorum`.",
        ),
        or(
            "on_failure",
            Kind::Word(&["remove", "zero-weight"]),
            "\"remove\"",
            "A real server whose check fails leaves the table and its connections break, or stays with weight 0.",
        ),
        may(
            "sorry_server",
            ADDRESS_OR_PORT,
            "none",
            "Gets the clients while quorum is lost; forwarded as `forwarding` says.",
        ),
        may(
            "check",
            Kind::Table(&CHECK),
            "none",
            "How real servers are found healthy that have no check of their own.",
        ),
        may("checks", CHECKS, "none", "The same, for more than one."),
        or(
            "require",
            REQUIRE,
            "\"all\"",
            "With several checks: all must pass, or one suffices.",
        ),
        or(
            "when",
            Kind::Word(&["always", "master"]),
            "\"always\"",
            "Its checks run always, or only while the virtual router in `vrrp` is master here.",
        ),
        may(
            "backup_interval",
            Kind::Duration(10, DAY),
            "none runs there",
            "With `when = \"master\"`: no check runs more often than that on a backup.",
        ),
        or(
            "slow_start",
            Kind::Duration(0, HOUR),
            "\"0s\"",
            "Over how long a real server that comes into a serving pool gets its weight, in steps; 0s: at once.",
        ),
        or(
            "minimum_up",
            Kind::Either(&[
                Kind::Integer(0, U32),
                Kind::Text(&Form {
                    name: "share such as \"50%\"",
                    pattern: "^[0-9]{1,3}%$",
                }),
            ]),
            "0",
            "Panic threshold: with fewer passing their checks, the last good ones stay in the pool; 0: off.",
        ),
        or(
            "real_server",
            Kind::Tables(&REAL_SERVER),
            "[]",
            "Its real servers, each under [[virtual_server.real_server]].",
        ),
    ],
};

static MARK: Table = Table {
    doc: "Packets that get the firewall mark.",
    one_of: &[],
    keys: &[
        or("protocol", PROTOCOL, "\"tcp\"", "Their protocol."),
        need("address", ADDRESS, "Their destination."),
        may(
            "ports",
            Kind::List(&Kind::Either(&[
                PORT,
                Kind::Text(&Form {
                    name: "range of ports",
                    pattern: r"^ *[0-9]{1,5} *(- *[0-9]{1,5} *)?$",
                }),
            ])),
            "every port",
            "Their destination ports: ports and ranges, [80, 443, \"8000-8100\"].",
        ),
    ],
};

static TUNNEL: Table = Table {
    doc: "How packets are encapsulated.",
    one_of: &[],
    keys: &[
        or(
            "type",
            Kind::Word(&["ipip", "gue", "gre"]),
            "\"ipip\"",
            "gue is a UDP datagram around the packet, gre another header.",
        ),
        may(
            "port",
            PORT,
            "a problem with gue",
            "The real server's UDP port.",
        )
        .of(&["gue"]),
        or(
            "checksum",
            Kind::Word(&["none", "full", "remote"]),
            "\"none\"",
            "Of the outer header. remote (gue only) leaves the inner one to be finished by the real server's end.",
        )
        .of(&["gue", "gre"]),
    ],
};

static PERSISTENCE: Table = Table {
    doc: "Clients stay on one real server.",
    one_of: &[],
    keys: &[
        or(
            "timeout",
            Kind::Duration(SECOND, 31 * DAY),
            "\"300s\"",
            "After a client's last connection; whole seconds.",
        ),
        may(
            "netmask",
            Kind::Integer(1, 128),
            "32, IPv6: 128",
            "Prefix length: clients of one such network count as one.",
        ),
        may(
            "netmask6",
            Kind::Integer(1, 128),
            "128",
            "The same for the IPv6 clients of a virtual server of both families.",
        ),
        may(
            "engine",
            Kind::Word(&["sip"]),
            "none",
            "Each call (Call-ID) stays on one real server; UDP only.",
        ),
    ],
};

static REAL_SERVER: Table = Table {
    doc: "Where a virtual server sends its clients.",
    one_of: &[],
    keys: &[
        need(
            "address",
            ADDRESS_OR_PORT,
            "The port defaults to the virtual server's; only NAT can change it.",
        ),
        or(
            "weight",
            Kind::Integer(0, I32),
            "1",
            "Share of new connections; 0: none.",
        ),
        or(
            "upper_threshold",
            Kind::Integer(0, U32),
            "0",
            "With more connections no new ones; 0: no limit.",
        ),
        or(
            "lower_threshold",
            Kind::Integer(0, U32),
            "0",
            "With fewer, new ones again; 0: three quarters of the upper one, which it must not exceed.",
        ),
        may(
            "forwarding",
            FORWARDING,
            "the virtual server's",
            "How packets reach it.",
        ),
        may(
            "tunnel",
            Kind::Table(&TUNNEL),
            "the virtual server's",
            "How \"tun\" encapsulates.",
        ),
        may(
            "check",
            Kind::Table(&CHECK),
            "the virtual server's",
            "How it is found healthy.",
        ),
        may(
            "checks",
            CHECKS,
            "the virtual server's",
            "The same, for more than one; []: none.",
        ),
        may(
            "require",
            REQUIRE,
            "the virtual server's",
            "With several checks: all must pass, or one suffices.",
        ),
    ],
};
