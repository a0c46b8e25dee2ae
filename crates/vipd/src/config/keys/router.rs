//! The keys of `[[vrrp]]`, `[[sync_group]]` and `[[track_script]]`.

use super::{
    ADDRESS, COMMAND, DAY, Form, HOUR, INTERFACE, Kind, NAME, PATH, PREFIX, SECOND, SOME_TEXT,
    TEXT, Table, U32, may, need, or,
};

pub(super) static VRRP: Table = Table {
    doc: "A virtual router: addresses that one of the directors holds.",
    one_of: &[],
    keys: &[
        need("name", NAME, "Unique among the virtual routers."),
        need(
            "interface",
            INTERFACE,
            "Carries the adverts, and the addresses unless they name their own.",
        ),
        need(
            "vrid",
            Kind::Integer(1, 255),
            "Identifies the virtual router in its network: the same on both directors, unique on its interface.",
        ),
        or(
            "version",
            Kind::Integer(2, 3),
            "2",
            "Of the protocol; the same on both directors. IPv6 needs 3.",
        ),
        or(
            "priority",
            Kind::Integer(1, 255),
            "100",
            "The highest is master. 255 is the owner of the addresses: master from the start.",
        ),
        or(
            "advert_interval",
            Kind::Duration(10, 255 * SECOND),
            "\"1s\"",
            "How often the master is heard. Version 2: whole seconds; version 3: up to 40.95s in steps of 10ms.",
        ),
        or(
            "down_adverts",
            Kind::Integer(1, 100),
            "3",
            "After how many missed adverts the master is dead; the same on both directors.",
        ),
        or(
            "preempt",
            Kind::Boolean,
            "true",
            "Whether this director takes over from a living master of lower priority.",
        ),
        or(
            "preempt_delay",
            Kind::Duration(0, 1000 * SECOND),
            "\"0s\"",
            "How long it listens to that master first; needs `preempt = true`.",
        ),
        or(
            "start_delay",
            Kind::Duration(0, HOUR),
            "\"0s\"",
            "How long after the start of the daemon it begins to take part.",
        ),
        or(
            "accept",
            Kind::Boolean,
            "true",
            "false: as master it takes no packets for its addresses but what IPVS forwards.",
        ),
        or(
            "checksum",
            Kind::Word(&["rfc5798", "rfc9568"]),
            "\"rfc5798\"",
            "Version 3 over IPv4: the sum that is sent, with the pseudo-header or without; both are accepted.",
        ),
        or(
            "takeover_probe",
            Kind::Word(&["off", "warn", "hold"]),
            "\"hold\"",
            "Before it takes over from a silent master: whether somebody still answers for the addresses, and what then.",
        ),
        need(
            "virtual_addresses",
            Kind::List(&Kind::Either(&[PREFIX, Kind::Table(&VIRTUAL_ADDRESS)])),
            "What the master holds; at least one is advertised. The first advertised IPv6 address must be link-local.",
        ),
        or(
            "virtual_mac",
            Kind::Either(&[Kind::Boolean, Kind::Table(&VIRTUAL_MAC)]),
            "false",
            "Adverts and addresses have the MAC 00:00:5e:00:01:VRID (IPv6: 02), on a macvlan `vrrp.VRID` (`vrrp6.VRID`) or of the name given.",
        ),
        or(
            "virtual_routes",
            Kind::List(&Kind::Table(&VIRTUAL_ROUTE)),
            "[]",
            "Routes that exist while it is master.",
        ),
        or(
            "virtual_rules",
            Kind::List(&Kind::Table(&VIRTUAL_RULE)),
            "[]",
            "Routing rules that exist while it is master.",
        ),
        may(
            "garp",
            Kind::Table(&GARP),
            "the defaults of its keys",
            "Gratuitous ARP and unsolicited neighbour advertisements.",
        ),
        may(
            "authentication",
            Kind::Table(&AUTHENTICATION),
            "none",
            "Who may speak.",
        ),
        may(
            "unicast",
            Kind::Table(&UNICAST),
            "multicast",
            "Adverts from host to host instead of to the group.",
        ),
        or(
            "heartbeat",
            Kind::List(&Kind::Table(&HEARTBEAT)),
            "[]",
            "Further paths for the adverts; only silence on all of them is death.",
        ),
        may(
            "reachable",
            Kind::Table(&REACHABLE),
            "none",
            "Addresses without which a lone virtual router is not master.",
        ),
        or(
            "track",
            Kind::List(&Kind::Table(&TRACK)),
            "[]",
            "What the state or the priority depends on.",
        ),
    ],
};

static VIRTUAL_ADDRESS: Table = Table {
    doc: "An address that the master holds.",
    one_of: &[],
    keys: &[
        need(
            "address",
            PREFIX,
            "With the prefix length of its network; without one /32 or /128.",
        ),
        may(
            "interface",
            INTERFACE,
            "the macvlan of `virtual_mac`, or the virtual router's",
            "Where it is put.",
        ),
        or(
            "advertise",
            Kind::Boolean,
            "true",
            "false: held like the others, but not named in the adverts. The same on both directors.",
        ),
        may(
            "label",
            Kind::Text(&Form {
                name: "label",
                pattern: r"^[^/\s]{1,15}$",
            }),
            "none",
            "IPv4: what `ifconfig` calls it; begins with the interface it is put on: \"eth0:vip\".",
        ),
        or(
            "scope",
            Kind::Word(&["global", "link", "host"]),
            "\"global\"",
            "IPv4: where it is valid.",
        ),
        or(
            "prefix_route",
            Kind::Boolean,
            "true",
            "Whether the kernel makes a route to its prefix.",
        ),
    ],
};

static VIRTUAL_MAC: Table = Table {
    doc: "The macvlan that carries adverts and addresses.",
    one_of: &[],
    keys: &[need("interface", INTERFACE, "Its name.")],
};

const ROUTING_TABLE: Kind =
    Kind::Either(&[Kind::Integer(1, U32), Kind::Word(&["main", "default"])]);

static VIRTUAL_ROUTE: Table = Table {
    doc: "As `ip route add`, while master.",
    one_of: &[],
    keys: &[
        need(
            "to",
            Kind::Either(&[Kind::Word(&["default"]), PREFIX]),
            "The destination: a network, an address or \"default\".",
        ),
        may(
            "via",
            ADDRESS,
            "this or `interface`",
            "The gateway; a link-local one needs `interface`.",
        ),
        may("interface", INTERFACE, "found by `via`", "The interface."),
        may(
            "source",
            ADDRESS,
            "the kernel's choice",
            "The source address of this host's packets, such as a virtual address.",
        ),
        or(
            "table",
            ROUTING_TABLE,
            "\"main\"",
            "The routing table; \"local\" (255) is the kernel's own.",
        ),
        may(
            "metric",
            Kind::Integer(0, U32),
            "the kernel's",
            "The metric.",
        ),
    ],
};

static VIRTUAL_RULE: Table = Table {
    doc: "As `ip rule add`, while master; with at least one of `from`, `to`, `fwmark`, `interface`.",
    one_of: &[],
    keys: &[
        need(
            "priority",
            Kind::Integer(1, U32),
            "Its place among the rules; `main` is looked up at 32766.",
        ),
        may(
            "from",
            PREFIX,
            "any",
            "Packets from this network or address.",
        ),
        may("to", PREFIX, "any", "Packets to this network or address."),
        may(
            "fwmark",
            Kind::Integer(1, U32),
            "any",
            "Packets with this firewall mark.",
        ),
        may("interface", INTERFACE, "any", "Packets that came in there."),
        need(
            "table",
            ROUTING_TABLE,
            "The routing table where the packet's route is looked up.",
        ),
    ],
};

static GARP: Table = Table {
    doc: "After a takeover the master tells the network where the addresses are.",
    one_of: &[],
    keys: &[
        or(
            "repeat",
            Kind::Integer(1, 60),
            "5",
            "How many for each address: the first at once, the others in steps of 30 ms.",
        ),
        or(
            "delay",
            Kind::Duration(0, HOUR),
            "\"5s\"",
            "As many again after this; 0s: never.",
        ),
        or(
            "refresh",
            Kind::Duration(0, DAY),
            "\"0s\"",
            "One more every so often while master; 0s: never, else at least 1s.",
        ),
    ],
};

static AUTHENTICATION: Table = Table {
    doc: "How adverts prove that they come from a peer; the same on both directors.",
    one_of: &[],
    keys: &[
        need(
            "type",
            Kind::Word(&["pass", "hmac"]),
            "pass: version 2 only, a password that everybody in the network can read. hmac: every advert is signed (HMAC-SHA256).",
        ),
        need(
            "key",
            SOME_TEXT,
            "pass: 1 to 8 printable ASCII characters; hmac: 32 to 64 bytes, or \"hex:...\"; either: \"file:/path\", readable by its owner only, or \"credential:NAME\" of the systemd unit.",
        ),
        may(
            "key_id",
            Kind::Integer(1, 255),
            "a problem with hmac",
            "The number of `key`, which signs.",
        )
        .of(&["hmac"]),
        may(
            "keys",
            Kind::List(&Kind::Table(&OTHER_KEY)),
            "none",
            "Further keys that are accepted, for the time of a change.",
        )
        .of(&["hmac"]),
        may(
            "window",
            Kind::Duration(SECOND, 300 * SECOND),
            "three advert intervals, 5s to 300s",
            "How far the clocks of the directors may be apart.",
        )
        .of(&["hmac"]),
        or(
            "mode",
            Kind::Word(&["enforce", "permissive"]),
            "\"enforce\"",
            "permissive also accepts adverts that are not signed, for the time while the peers get their keys.",
        )
        .of(&["hmac"]),
    ],
};

static OTHER_KEY: Table = Table {
    doc: "A further key that is accepted.",
    one_of: &[],
    keys: &[
        need("id", Kind::Integer(1, 255), "Its number."),
        need("key", SOME_TEXT, "As the key that signs."),
    ],
};

static UNICAST: Table = Table {
    doc: "Adverts from host to host, for networks without multicast.",
    one_of: &[],
    keys: &[
        need(
            "source",
            ADDRESS,
            "This director's own address; while the interface does not have it nothing is sent.",
        ),
        need(
            "peers",
            Kind::List(&Kind::Either(&[ADDRESS, Kind::Table(&PEER)])),
            "The other directors, at least one, without this one.",
        ),
        or(
            "ttl",
            Kind::Integer(1, 255),
            "255",
            "Time to live, or hop limit, of what is sent.",
        ),
    ],
};

static PEER: Table = Table {
    doc: "Another director.",
    one_of: &[],
    keys: &[
        need("address", ADDRESS, "Its address."),
        or(
            "min_ttl",
            Kind::Integer(1, 255),
            "255",
            "The least time to live of its adverts: 255 is a neighbour, each router on the way takes 1.",
        ),
        or(
            "max_ttl",
            Kind::Integer(1, 255),
            "255",
            "The greatest; not below `min_ttl`.",
        ),
    ],
};

static HEARTBEAT: Table = Table {
    doc: "A further path for the adverts: `interface` or `peer`.",
    one_of: &["interface", "peer"],
    keys: &[
        may(
            "interface",
            INTERFACE,
            "this or `peer`",
            "To the group, on another interface than the virtual router's.",
        ),
        may(
            "peer",
            ADDRESS,
            "this or `interface`",
            "To a host; not one of `unicast`.",
        ),
        may(
            "source",
            ADDRESS,
            "that of the route to the peer",
            "With `peer`: this director's own address.",
        ),
    ],
};

static REACHABLE: Table = Table {
    doc: "Reference addresses: a virtual router that hears no peer is master only while one answers a ping.",
    one_of: &[],
    keys: &[
        need(
            "any_of",
            Kind::List(&ADDRESS),
            "At least one, none of them a virtual address; the gateway's is a good one.",
        ),
        or(
            "interval",
            Kind::Duration(100, HOUR),
            "\"1s\"",
            "From one round of pings to the next.",
        ),
        may(
            "timeout",
            Kind::Duration(1, HOUR),
            "500ms, or a shorter `interval`",
            "How long an answer may take; at most `interval`.",
        ),
        or(
            "fall",
            Kind::Integer(1, 1000),
            "3",
            "Rounds without any answer that count as loss.",
        ),
    ],
};

static TRACK: Table = Table {
    doc: "One thing that the state or the priority depends on: `interface`, `script`, `file`, `process` or `virtual_server`.",
    one_of: &["interface", "script", "file", "process", "virtual_server"],
    keys: &[
        may(
            "interface",
            INTERFACE,
            "one of the five",
            "It is there and up.",
        ),
        may(
            "script",
            TEXT,
            "one of the five",
            "The name of a `[[track_script]]`, which passes.",
        ),
        may(
            "file",
            PATH,
            "one of the five",
            "The number in it is 0; with a weight the number, multiplied by it, is added to the priority.",
        ),
        may(
            "process",
            Kind::Text(&Form {
                name: "name of a process",
                pattern: "^[^/]{1,15}$",
            }),
            "one of the five",
            "At least `count` processes of that name run (`ps -o comm`).",
        ),
        may(
            "count",
            Kind::Integer(1, U32),
            "1",
            "With `process`: how many.",
        ),
        may(
            "virtual_server",
            TEXT,
            "one of the five",
            "The name of a `[[virtual_server]]`, which has quorum.",
        ),
        may(
            "weight",
            Kind::Integer(-253, 253),
            "a failure is a fault",
            "Added to the priority: above 0 while it is well, below 0 while it is not. Not 0.",
        ),
    ],
};

pub(super) static SYNC_GROUP: Table = Table {
    doc: "Virtual routers that are master together or not at all.",
    one_of: &[],
    keys: &[
        need("name", NAME, "Unique among the groups."),
        need(
            "members",
            Kind::List(&TEXT),
            "Names of `[[vrrp]]`, at least two; a virtual router is in one group only.",
        ),
    ],
};

pub(super) static TRACK_SCRIPT: Table = Table {
    doc: "A program for `track`: exit code 0 is well.",
    one_of: &[],
    keys: &[
        need("name", NAME, "Unique among the scripts."),
        need(
            "command",
            COMMAND,
            "The program by its absolute path, and its arguments; no shell. Writable by its owner only.",
        ),
        or(
            "interval",
            Kind::Duration(100, HOUR),
            "\"1s\"",
            "From one start to the next.",
        ),
        may(
            "timeout",
            Kind::Duration(100, HOUR),
            "`interval`",
            "When it is killed with all its children; at most `interval`.",
        ),
        or(
            "rise",
            Kind::Integer(1, 1000),
            "1",
            "Successes in a row that make it well.",
        ),
        or(
            "fall",
            Kind::Integer(1, 1000),
            "1",
            "Failures in a row that make it fail.",
        ),
        or(
            "user",
            SOME_TEXT,
            "\"nobody\"",
            "Who runs it; must stand in /etc/passwd.",
        ),
    ],
};
