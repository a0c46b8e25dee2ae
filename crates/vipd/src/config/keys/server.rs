//! The keys of `[[virtual_server]]`, its real servers and their checks.

use super::{
    ADDRESS, ADDRESS_AND_PORT, ADDRESS_OR_PORT, COMMAND, DAY, Form, HOST, HOUR, I32, INTERFACE,
    Kind, NAME, PATH, SECOND, SOME_TEXT, TEXT, Table, U32, may, need, or,
};

const PORT: Kind = Kind::Integer(1, 65535);
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

const HTTP: &[&str] = &["http"];
const TLS: &[&str] = &["http", "tls", "smtp", "grpc"];
const UDP: &[&str] = &["udp"];
const DNS: &[&str] = &["dns"];
const SCRIPT: &[&str] = &["script"];

static CHECK: Table = Table {
    doc: "How a real server is found healthy. The keys after `fwmark` belong to some types only.",
    one_of: &[],
    keys: &[
        need(
            "type",
            Kind::Word(&[
                "none", "tcp", "http", "tls", "smtp", "grpc", "dns", "udp", "ping", "script",
                "agent",
            ]),
            "What is tried. HTTPS is \"http\" with `tls = true`.",
        ),
        or(
            "interval",
            Kind::Duration(10, DAY),
            "\"5s\"",
            "From the start of one probe to the start of the next.",
        ),
        may(
            "fast_interval",
            Kind::Duration(10, DAY),
            "`interval`",
            "The same while something changes; at most `interval`.",
        ),
        may(
            "down_interval",
            Kind::Duration(10, DAY),
            "`interval`",
            "The same while the real server is down and fails.",
        ),
        or(
            "timeout",
            Kind::Duration(1, HOUR),
            "\"3s\"",
            "No answer by then is a failure.",
        ),
        or(
            "rise",
            Kind::Integer(1, 1000),
            "1",
            "Successes in a row that bring a real server back.",
        ),
        may(
            "fall",
            Kind::Integer(1, 1000),
            "2; dns, udp, ping: 3",
            "Failures in a row that take it out.",
        ),
        may(
            "flap",
            Kind::Table(&FLAP),
            "off",
            "A real server that comes and goes stays out until it is stable.",
        ),
        may(
            "address",
            ADDRESS,
            "the real server's",
            "Where to connect instead.",
        ),
        may(
            "port",
            PORT,
            "the real server's",
            "Where to connect instead; the agent's own, which must be written.",
        )
        .of(&[
            "none", "tcp", "http", "tls", "smtp", "grpc", "dns", "udp", "script", "agent",
        ]),
        or(
            "start",
            Kind::Word(&["down", "up"]),
            "\"down\"",
            "Before the first probe: out of the pool until it passes, or in the pool until it fails.",
        ),
        or(
            "via",
            Kind::Word(&["direct", "vip"]),
            "\"direct\"",
            "vip: to the virtual address, the clients' way through IPVS, and through exactly this real server.",
        ),
        may(
            "source",
            ADDRESS,
            "the routing table's",
            "The address of this machine that the check comes from.",
        ),
        may(
            "interface",
            INTERFACE,
            "the routing table's",
            "The only interface that the check may leave by.",
        ),
        may(
            "fwmark",
            Kind::Integer(1, U32),
            "none",
            "The firewall mark of the check's packets, for rules and routes of their own.",
        ),
        or(
            "method",
            Kind::Text(&Form {
                name: "method",
                pattern: "^[A-Z-]+$",
            }),
            "\"GET\"",
            "The request method.",
        )
        .of(HTTP),
        or(
            "path",
            Kind::Text(&Form {
                name: "path",
                pattern: r"^/[^#\s]*$",
            }),
            "\"/\"",
            "Path and query of the request.",
        )
        .of(HTTP),
        may(
            "host",
            HOST,
            "the address",
            "The `Host` header, or the authority: a name, with or without a port.",
        )
        .of(&["http", "grpc"]),
        or(
            "headers",
            Kind::Map(&TEXT),
            "{}",
            "Further request headers: { X-Check = \"vipd\" }.",
        )
        .of(HTTP),
        or(
            "status",
            Kind::Either(&[
                Kind::Integer(100, 999),
                STATUS,
                Kind::List(&Kind::Either(&[Kind::Integer(100, 999), STATUS])),
            ]),
            "\"200-299\"",
            "The status codes that pass. Redirects are not followed.",
        )
        .of(HTTP),
        or(
            "version",
            Kind::Word(&["1.1", "2"]),
            "\"1.1\"",
            "2: HTTP/2, by ALPN over TLS, else with prior knowledge.",
        )
        .of(HTTP),
        may(
            "body_contains",
            SOME_TEXT,
            "none",
            "Must be in the body of the answer.",
        )
        .of(HTTP),
        may(
            "body_regex",
            SOME_TEXT,
            "none",
            "A regular expression that must match the body, somewhere.",
        )
        .of(HTTP),
        may(
            "body_sha256",
            Kind::Text(&Form {
                name: "64 hexadecimal digits",
                pattern: "^[0-9A-Fa-f]{64}$",
            }),
            "none",
            "The SHA-256 of the whole body.",
        )
        .of(HTTP),
        or("tls", Kind::Boolean, "false", "Over TLS.").of(&["http", "grpc"]),
        may(
            "helo",
            HOST,
            "the address that the check comes from",
            "What EHLO names.",
        )
        .of(&["smtp"]),
        or(
            "starttls",
            Kind::Boolean,
            "false",
            "STARTTLS follows, the handshake, and EHLO once more.",
        )
        .of(&["smtp"]),
        may(
            "service",
            TEXT,
            "the server as a whole",
            "The name that the server's health service knows.",
        )
        .of(&["grpc"]),
        or(
            "verify",
            Kind::Boolean,
            "true",
            "Over TLS: the certificate must be valid for the name and signed by a trusted root.",
        )
        .of(TLS),
        may(
            "sni",
            HOST,
            "`host`, or else the address",
            "Over TLS: the name that is sent and verified.",
        )
        .of(TLS),
        may(
            "ca",
            PATH,
            "the system's roots",
            "Over TLS: a PEM file with the roots to trust instead.",
        )
        .of(TLS),
        may(
            "certificate",
            PATH,
            "none",
            "Over TLS: a PEM file, what the check shows to a server that asks; needs `key`.",
        )
        .of(TLS),
        may(
            "key",
            PATH,
            "none",
            "Over TLS: a PEM file, the private key of `certificate`.",
        )
        .of(TLS),
        may(
            "expires_within",
            Kind::Duration(0, 3650 * DAY),
            "14d",
            "Over TLS: a certificate that ends sooner passes with a warning; 0s: without.",
        )
        .of(TLS),
        or(
            "name",
            Kind::Text(&Form {
                name: "DNS name",
                pattern: r"^\S{1,254}$",
            }),
            "\".\"",
            "The name asked for, without search list.",
        )
        .of(DNS),
        or(
            "record",
            Kind::Word(&[
                "a", "aaaa", "caa", "cname", "mx", "ns", "ptr", "soa", "srv", "txt",
            ]),
            "\"soa\"",
            "The type of record; there must be one of it in the answer.",
        )
        .of(DNS),
        or("tcp", Kind::Boolean, "false", "Over TCP from the start.").of(DNS),
        may(
            "send",
            SOME_TEXT,
            "udp: an empty datagram; agent: nothing",
            "What is sent first; udp: at most 1200 bytes.",
        )
        .of(&["udp", "agent"]),
        may(
            "send_hex",
            TEXT,
            "none",
            "The same as bytes: \"12 34 01 00\".",
        )
        .of(UDP),
        may(
            "expect",
            SOME_TEXT,
            "any answer",
            "dns: must be among the answers. udp: what the first reply must begin with.",
        )
        .of(&["dns", "udp"]),
        may(
            "expect_hex",
            TEXT,
            "any reply",
            "The same as bytes; `xx` is any byte: \"12 34 xx 80\".",
        )
        .of(UDP),
        may(
            "command",
            COMMAND,
            "a problem with script",
            "The program, by its whole path, and its arguments. Nobody but its owner may write it.",
        )
        .of(SCRIPT),
        may("user", SOME_TEXT, "nobody", "Who runs it.").of(SCRIPT),
    ],
};

const STATUS: Kind = Kind::Text(&Form {
    name: "codes and ranges",
    pattern: r"^ *[1-9][0-9]{2} *(- *[1-9][0-9]{2} *)?(, *[1-9][0-9]{2} *(- *[1-9][0-9]{2} *)?)*$",
});

static FLAP: Table = Table {
    doc: "When a real server that comes and goes stays out.",
    one_of: &[],
    keys: &[
        or(
            "count",
            Kind::Integer(2, 1000),
            "5",
            "Changes between up and down.",
        ),
        or(
            "within",
            Kind::Duration(SECOND, 7 * DAY),
            "\"10m\"",
            "The time in which so many changes make it flap.",
        ),
        or(
            "stable",
            Kind::Duration(SECOND, 7 * DAY),
            "\"2m\"",
            "How long it must then pass without a failure.",
        ),
    ],
};
