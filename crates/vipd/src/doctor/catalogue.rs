//! What doctor can find, each with the code that stays. docs/doctor.md has a section for each, which
//! `tests/doctor.rs` compares with this list.

use super::Severity;

/// A kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its code, for people and programs; it never changes its meaning.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, on one line.
    pub title: &'static str,
    /// Why it matters.
    pub why: &'static str,
}

macro_rules! kinds {
    ($($name:ident $code:literal $severity:ident $title:literal $why:literal)*) => {
        $(pub(super) const $name: Kind = Kind {
            code: $code,
            severity: Severity::$severity,
            title: $title,
            why: $why,
        };)*

        /// All of them, in the order of docs/doctor.md.
        pub const ALL: &[Kind] = &[$($name),*];
    };
}

kinds! {
    ARP_REAL_SERVER "VIP-ARP-001" Error
    "a real server answers for the virtual address"
    "whoever asks may learn the real server's MAC instead of the director's: those clients go to one real \
     server past the director, unbalanced and unchecked, and lose their connections when the entry changes"

    ARP_TWO_DIRECTORS "VIP-ARP-002" Error
    "two directors hold the virtual address"
    "each client goes to whichever director answered it last, and its connections break whenever that \
     changes"

    ARP_UNKNOWN_HOST "VIP-ARP-003" Error
    "a host that belongs to no cluster answers for the virtual address"
    "the address is a duplicate on this network: some clients reach that host instead of the cluster"

    ARP_NOBODY "VIP-ARP-004" Error
    "nobody holds the virtual address"
    "no client reaches the services behind it"

    TWO_MASTERS "VIP-VRRP-001" Error
    "two masters announce the same virtual router"
    "a split brain: both answer for the addresses, clients are torn between them, and each director \
     knows only its own connections"

    ANNOUNCED_DIFFERENTLY "VIP-VRRP-002" Error
    "another director announces this virtual router in a way that is not understood here"
    "its adverts are discarded, so that both directors take the other for dead and become master"

    FOREIGN_VRID "VIP-VRRP-003" Error
    "another cluster on this network uses the same VRID"
    "the routers of both take each other for peers: one of them never becomes master, or both flap"

    OTHER_DAEMON "VIP-VRRP-004" Error
    "another daemon on this host manages the same virtual router"
    "both add and remove the same addresses, and announce them with different priorities"

    ADVERTS_LOST "VIP-VRRP-005" Error
    "adverts of this director do not reach the other one"
    "the other director takes this one for dead and becomes master, too; usual causes are IGMP snooping \
     without a querier, and a firewall on the way"

    FAULT "VIP-VRRP-006" Error
    "a virtual router is in fault here"
    "it cannot become master on this director until that is mended, so nobody takes over for the peer"

    FIREWALL_IN "VIP-FW-001" Error
    "adverts are dropped on their way in"
    "this director does not hear the master, and becomes master beside it"

    FIREWALL_OUT "VIP-FW-002" Error
    "the own adverts are dropped on their way out"
    "the peer does not hear this director, and becomes master beside it"

    FIREWALL_CLIENTS "VIP-FW-003" Error
    "packets to the virtual address are dropped"
    "clients get no answer, while the health checks, which go to the real servers, pass"

    UNREACHABLE "VIP-RS-001" Error
    "a real server does not answer on its link"
    "whatever IPVS sends there is lost; without a check it stays in the pool"

    NOT_ON_LINK "VIP-DR-001" Error
    "a real server of direct routing is behind a gateway"
    "direct routing changes only the MAC: the gateway sends packets for the virtual address back to the \
     director, or drops them"

    VIP_MISSING "VIP-DR-002" Error
    "a real server does not take packets for the virtual address"
    "with direct routing packets keep the virtual address: a real server that does not have it drops \
     them, while checks of its own address pass"

    TUNNEL_MISSING "VIP-TUN-001" Error
    "a real server takes nothing out of the tunnel for the virtual address"
    "the tunnel device or the virtual address is missing there, or its rp_filter drops what comes out of \
     the tunnel, while checks of its own address pass"

    TUNNEL_MTU "VIP-TUN-002" Warning
    "the way to a real server is narrower than the clients' network"
    "clients' full packets do not fit into the tunnel: small answers work, large uploads hang wherever \
     ICMP is filtered"

    NO_RETURN_PATH "VIP-NAT-001" Error
    "answers of a real server do not come back through the director"
    "with NAT only the director can put the virtual address back into the answers: the client gets \
     them from an address that it never asked, and its connections stay half-open"

    NOT_FORWARDING "VIP-NAT-002" Error
    "this director does not forward packets"
    "no answer of a real server behind NAT gets to its client"

    REDIRECTS "VIP-NAT-003" Warning
    "this director tells real servers a way around itself"
    "real servers and clients are on one network, so the kernel sends ICMP redirects: a real server that \
     follows them answers clients directly, and the connections break"

    REVERSE_PATH "VIP-NET-001" Warning
    "the reverse path filter drops packets"
    "packets come in by another interface than the one that leads back to their sender, and \
     rp_filter = 1 drops them without a word"

    CONFIGURED_ELSEWHERE "VIP-NET-002" Warning
    "something else configures the virtual address on this host"
    "it puts the address here at boot or takes it away while this director is master, whatever VRRP says"

    DOES_NOT_ANSWER "VIP-NET-003" Error
    "this director is told not to answer ARP"
    "nobody learns where the virtual address is, but from the announcements at a takeover"

    SILENT "VIP-CTL-001" Error
    "the daemon does not answer"
    "it may be stopped or hung: then it sends no adverts, sees no failure, and takes no order"

    CONNECTIONS_TRACKED "VIP-CT-001" Error
    "the connection tracking table is nearly full"
    "once it is full, the kernel drops every packet of a new connection"

    NO_IPVS "VIP-IPVS-001" Error
    "the kernel's IPVS is not loaded"
    "no virtual server exists without it"

    NO_SCHEDULER "VIP-IPVS-002" Error
    "the kernel lacks a scheduler"
    "it refuses the virtual servers that ask for it"

    CONNECTION_TABLE "VIP-IPVS-003" Warning
    "the connection table of IPVS is small for its load"
    "every packet walks through a list of the connections that share its bucket: the load of the \
     processor grows with every connection"

    REFUSED "VIP-IPVS-004" Error
    "the kernel refuses what is configured"
    "the table is not what the configuration says"

    FOUGHT_OVER "VIP-SYS-001" Warning
    "something else sets a sysctl that vipd sets"
    "the value changes back and forth, or is wrong after the next boot"

    DESCRIPTORS "VIP-LIM-001" Warning
    "the daemon has few file descriptors left"
    "without them checks cannot be made, and then real servers that are well count as down"

    ALL_CHECKS_FAIL "VIP-CHK-001" Error
    "every check from this director fails"
    "that they all broke at once is less likely than that this director's own network is at fault"

    CHECK_WARNS "VIP-CHK-002" Warning
    "a check passes with a warning"
    "what it found is no failure yet, but will be"

    PEER_DIFFERS "VIP-PEER-001" Warning
    "the two directors are configured differently"
    "after a takeover clients find another service than before"

    CLOCKS_DIFFER "VIP-CLOCK-001" Warning
    "the clocks of the two directors differ"
    "signed adverts are discarded outside the window of time, and events of the two cannot be put in order"

    INVALID "CFG-INVALID" Error
    "the configuration is not valid"
    "vipd does not start with it, and a reload changes nothing"
}
