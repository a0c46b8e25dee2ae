//! The keys of `check` and `checks`.

use super::{
    ADDRESS, COMMAND, DAY, Form, HOST, HOUR, INTERFACE, Kind, PATH, PORT, SECOND, SOME_TEXT, TEXT,
    Table, U32, may, need, or,
};

const HTTP: &[&str] = &["http"];
const TLS: &[&str] = &["http", "tls", "smtp", "grpc"];
const UDP: &[&str] = &["udp"];
const DNS: &[&str] = &["dns"];
const SCRIPT: &[&str] = &["script"];

pub(super) static CHECK: Table = Table {
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
