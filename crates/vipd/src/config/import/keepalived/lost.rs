//! What keepalived has and vipd has not, in words: for each place the keywords, and what to do instead.

use super::super::super::text;
use super::block::Node;
use super::context::Context;

/// A keyword that is not translated.
pub(super) struct Keyword {
    pub(super) word: &'static str,
    /// Whether something is missing without it; else the result is the same.
    lost: bool,
    message: &'static str,
    help: &'static str,
}

const fn lost(word: &'static str, message: &'static str, help: &'static str) -> Keyword {
    Keyword {
        word,
        lost: true,
        message,
        help,
    }
}

const fn idle(word: &'static str, message: &'static str) -> Keyword {
    Keyword {
        word,
        lost: false,
        message,
        help: "nothing is to be done",
    }
}

const BY_ITSELF: &str = "vipd does that by itself";
const ONE_PROCESS: &str =
    "vipd is one process, with a real-time thread for VRRP where it is allowed";
const NO_MAIL: &str = "vipd sends no mail";
const HOOK: &str = "write a [[notify]] with a command or a webhook";
const NO_SNMP: &str = "vipd has no SNMP";
const METRICS: &str = "write `http = \"127.0.0.1:9650\"` in [global], and read the metrics there";
const NO_FIFO: &str = "vipd writes to no FIFO";
const EVENTS: &str = "write a [[notify]], or read `vipctl events --follow --json`";
const NFTABLES: &str = "vipd has an nftables table of its own, called vipd";
const STATIC: &str = "vipd keeps what moves with a virtual router, and nothing else";
const NETWORK: &str = "write it in the configuration of the host's network";
const NO_BFD: &str = "vipd has no BFD";
const FASTER: &str = "shorten advert_interval (version = 3), or track a program";

/// Blocks of the file.
pub(super) const TOP: [Keyword; 18] = [
    lost("static_ipaddress", STATIC, NETWORK),
    lost("static_routes", STATIC, NETWORK),
    lost("static_rules", STATIC, NETWORK),
    lost("track_group", STATIC, NETWORK),
    lost("bfd_instance", NO_BFD, FASTER),
    lost(
        "garp_group",
        "vipd has no pace for groups of interfaces",
        "it sends its announcements 30 ms apart",
    ),
    idle("linkbeat_interfaces", "vipd hears of links from the kernel"),
    idle(
        "linkbeat_use_polling",
        "vipd hears of links from the kernel",
    ),
    lost(
        "interface_up_down_delays",
        "vipd believes the state of a link at once",
        "remove it",
    ),
    lost(
        "SSL",
        "vipd has no settings for all checks over TLS",
        "write `ca`, `certificate` and `key` in each check",
    ),
    lost(
        "net_namespace",
        "vipd runs in the network namespace that it is started in",
        "write NetworkNamespacePath= in its systemd unit",
    ),
    lost(
        "net_namespace_ipvs",
        "vipd's checks and IPVS are in one network namespace",
        "remove it",
    ),
    idle("namespace_with_ipsets", NFTABLES),
    lost(
        "instance",
        "vipd has one file for each daemon",
        "use the systemd unit vipd@NAME, with /etc/vipd/NAME.toml",
    ),
    idle("use_pid_dir", "vipd has no pid files"),
    idle("child_wait_time", ONE_PROCESS),
    idle("include_check", "a file that is not there is always said"),
    lost("track_bfd", NO_BFD, FASTER),
];

/// `global_defs`
pub(super) const GLOBAL: [Keyword; 94] = [
    lost("notification_email", NO_MAIL, HOOK),
    lost("notification_email_from", NO_MAIL, HOOK),
    lost("smtp_server", NO_MAIL, HOOK),
    lost("smtp_helo_name", NO_MAIL, HOOK),
    lost("smtp_connect_timeout", NO_MAIL, HOOK),
    lost("smtp_alert", NO_MAIL, HOOK),
    lost("smtp_alert_vrrp", NO_MAIL, HOOK),
    lost("smtp_alert_checker", NO_MAIL, HOOK),
    idle("no_email_faults", NO_MAIL),
    idle("no_checker_emails", NO_MAIL),
    idle("email_faults", NO_MAIL),
    idle(
        "checker_log_all_failures",
        "`vipctl check` and the metrics show every failure",
    ),
    idle("tmp_config_directory", ONE_PROCESS),
    idle(
        "config_save_dir",
        "vipd keeps the file before a trial itself",
    ),
    idle("process_names", ONE_PROCESS),
    idle("process_name", ONE_PROCESS),
    idle("vrrp_process_name", ONE_PROCESS),
    idle("checker_process_name", ONE_PROCESS),
    idle("bfd_process_name", ONE_PROCESS),
    lost(
        "startup_script",
        "vipd runs no program at its start",
        "write ExecStartPre= in its systemd unit",
    ),
    lost(
        "shutdown_script",
        "vipd runs no program at its end",
        "write ExecStopPost= in its systemd unit",
    ),
    lost(
        "startup_script_timeout",
        "vipd runs no program at its start",
        "write ExecStartPre= in its systemd unit",
    ),
    lost(
        "shutdown_script_timeout",
        "vipd runs no program at its end",
        "write ExecStopPost= in its systemd unit",
    ),
    idle(
        "default_interface",
        "only static addresses and addresses without an interface have it",
    ),
    lost(
        "lvs_flush",
        "vipd leaves alone what it has not made",
        "run `ipvsadm -C` once",
    ),
    idle(
        "lvs_flush_on_stop",
        "vipd removes what it has made, as fast as the kernel can",
    ),
    lost(
        "lvs_garp_lower_prio",
        "vipd has no such setting",
        "remove it",
    ),
    lost(
        "vrrp_garp_extra_if",
        "vipd announces on the interface of each address, with `refresh` again and again",
        "write garp = { refresh = \"100s\" }",
    ),
    lost(
        "vrrp_lower_prio_no_advert",
        "vipd answers a rival of lower priority at once",
        "remove it: the rival gives up sooner so",
    ),
    lost(
        "vrrp_higher_prio_send_advert",
        "vipd sends no advert to a master of higher priority",
        "the other one announces its addresses when it hears a rival",
    ),
    idle("nftables", NFTABLES),
    idle("nftables_priority", NFTABLES),
    idle("nftables_counters", NFTABLES),
    idle("nftables_ifindex", NFTABLES),
    idle("nftables_ipvs", "vipd makes a service of each address"),
    idle(
        "nftables_ipvs_priority",
        "vipd makes a service of each address",
    ),
    idle(
        "nftables_ipvs_start_fwmark",
        "vipd makes a service of each address",
    ),
    idle("vrrp_iptables", NFTABLES),
    idle("vrrp_ipsets", NFTABLES),
    idle("disable_local_igmp", BY_ITSELF),
    idle("vrrp_check_unicast_src", "vipd hears nobody but the peers"),
    idle(
        "vrrp_skip_check_adv_addr",
        "vipd compares addresses and discards no advert for them",
    ),
    lost("vrrp_notify_priority_changes", NO_FIFO, EVENTS),
    idle("max_auto_priority", ONE_PROCESS),
    idle("min_auto_priority_delay", ONE_PROCESS),
    idle("vrrp_priority", ONE_PROCESS),
    idle("checker_priority", ONE_PROCESS),
    idle("bfd_priority", ONE_PROCESS),
    idle("vrrp_no_swap", ONE_PROCESS),
    idle("checker_no_swap", ONE_PROCESS),
    idle("bfd_no_swap", ONE_PROCESS),
    idle("vrrp_cpu_affinity", ONE_PROCESS),
    idle("checker_cpu_affinity", ONE_PROCESS),
    idle("bfd_cpu_affinity", ONE_PROCESS),
    idle("vrrp_rt_priority", ONE_PROCESS),
    idle("checker_rt_priority", ONE_PROCESS),
    idle("bfd_rt_priority", ONE_PROCESS),
    idle("vrrp_rlimit_rttime", ONE_PROCESS),
    idle("checker_rlimit_rttime", ONE_PROCESS),
    idle("bfd_rlimit_rttime", ONE_PROCESS),
    lost("snmp_socket", NO_SNMP, METRICS),
    lost("enable_snmp_vrrp", NO_SNMP, METRICS),
    lost("enable_snmp_keepalived", NO_SNMP, METRICS),
    lost("enable_snmp_checker", NO_SNMP, METRICS),
    lost("enable_snmp_rfc", NO_SNMP, METRICS),
    lost("enable_snmp_rfcv2", NO_SNMP, METRICS),
    lost("enable_snmp_rfcv3", NO_SNMP, METRICS),
    lost("enable_traps", NO_SNMP, METRICS),
    lost(
        "enable_dbus",
        "vipd is not on D-Bus",
        "use `vipctl`, or its control socket",
    ),
    lost(
        "dbus_service_name",
        "vipd is not on D-Bus",
        "use `vipctl`, or its control socket",
    ),
    idle(
        "enable_script_security",
        "vipd runs no program that others may write, ever",
    ),
    lost("notify_fifo", NO_FIFO, EVENTS),
    lost("notify_fifo_script", NO_FIFO, EVENTS),
    lost("vrrp_notify_fifo", NO_FIFO, EVENTS),
    lost("vrrp_notify_fifo_script", NO_FIFO, EVENTS),
    lost("lvs_notify_fifo", NO_FIFO, EVENTS),
    lost("lvs_notify_fifo_script", NO_FIFO, EVENTS),
    idle("fifo_write_vrrp_states_on_reload", NO_FIFO),
    idle(
        "dynamic_interfaces",
        "vipd waits for interfaces and takes them back",
    ),
    idle("process_monitor_rcv_bufs", BY_ITSELF),
    idle("process_monitor_rcv_bufs_force", BY_ITSELF),
    idle("vrrp_rx_bufs_policy", BY_ITSELF),
    idle("vrrp_rx_bufs_multiplier", BY_ITSELF),
    lost(
        "rs_init_notifies",
        "vipd tells of changes only",
        "ask `vipctl status` at the start",
    ),
    idle("umask", "vipd writes below state_dir only"),
    lost(
        "vrrp_delay_after_boot",
        "vipd counts from its own start",
        "write `start_delay` in each [[vrrp]]",
    ),
    idle("log_unknown_vrids", "`vipctl doctor` finds them"),
    lost(
        "vmac_prefix",
        "the interface of a virtual MAC is called vrrp.VRID",
        "write virtual_mac = { interface = \"...\" }",
    ),
    lost(
        "vmac_addr_prefix",
        "the interface of a virtual MAC is called vrrp.VRID",
        "write virtual_mac = { interface = \"...\" }",
    ),
    idle("random_seed", "nothing here is random"),
    idle(
        "reload_check_config",
        "a reload that is not valid changes nothing",
    ),
    lost(
        "reload_time_file",
        "vipd reloads when it is told to",
        "run `vipctl reload` from cron",
    ),
    idle("reload_repeat", "vipd reloads when it is told to"),
    idle(
        "data_use_instance",
        "`vipctl status --json` shows what vipd knows",
    ),
];

/// What stands among `GLOBAL` and begins so.
const GLOBAL_FAMILIES: [(&str, Keyword); 4] = [
    ("vrrp_netlink_", idle("", BY_ITSELF)),
    ("lvs_netlink_", idle("", BY_ITSELF)),
    (
        "reload_file",
        idle("", "a reload waits until the file is whole"),
    ),
    (
        "json_",
        idle("", "`vipctl status --json` shows what vipd knows"),
    ),
];

/// `vrrp_instance`
pub(super) const INSTANCE: [Keyword; 35] = [
    idle("native_ipv6", "the addresses say so"),
    lost(
        "use_ipvlan",
        "vipd has no ipvlan",
        "write virtual_mac = true",
    ),
    lost(
        "use_vmac_addr",
        "the virtual MAC is on the interface of the virtual router only",
        "remove it",
    ),
    lost(
        "vrf",
        "vipd's adverts need an interface",
        "write the interface",
    ),
    lost(
        "dont_track_primary",
        "a virtual router whose interface is down is in fault",
        "remove it",
    ),
    lost("track_bfd", NO_BFD, FASTER),
    lost(
        "mcast_src_ip",
        "vipd sends from the first address of the interface",
        "write unicast = { source, peers } if another one matters",
    ),
    lost(
        "mcast_dst_ip",
        "vipd's group is that of the RFC",
        "give the virtual routers different VRIDs",
    ),
    lost(
        "track_src_ip",
        "vipd sends nothing while its source address is missing, and is in fault",
        "remove it",
    ),
    idle("check_unicast_src", "vipd hears nobody but the peers"),
    idle(
        "unicast_fault_no_peer",
        "without a peer there is no unicast",
    ),
    idle(
        "old_unicast_checksum",
        "vipd knows both forms of the checksum",
    ),
    lost(
        "garp_extra_if",
        "vipd announces on the interface of each address, with `refresh` again and again",
        "write garp = { refresh = \"100s\" }",
    ),
    lost(
        "lower_prio_no_advert",
        "vipd answers a rival of lower priority at once",
        "remove it: the rival gives up sooner so",
    ),
    lost(
        "higher_prio_send_advert",
        "vipd sends no advert to a master of higher priority",
        "the other one announces its addresses when it hears a rival",
    ),
    lost(
        "auth_hmac",
        "its keys are not read",
        "write authentication = { type = \"hmac\", key_id = 1, key = \"file:/path\" }",
    ),
    lost(
        "no_virtual_ipaddress",
        "a virtual router advertises at least one address",
        "write one",
    ),
    idle(
        "promote_secondaries",
        "vipd puts back an address that the kernel took away",
    ),
    idle(
        "skip_check_adv_addr",
        "vipd compares addresses and discards no advert for them",
    ),
    idle("debug", "the variable RUST_LOG says what is logged"),
    lost(
        "notify_deleted",
        "a virtual router that a reload removes tells of its end as at a stop",
        "write a [[notify]] of vrrp.initialize",
    ),
    lost("notify_priority_changes", NO_FIFO, EVENTS),
    lost("smtp_alert", NO_MAIL, HOOK),
    idle("kernel_rx_buf_size", BY_ITSELF),
    idle(
        "linkbeat_use_polling",
        "vipd hears of links from the kernel",
    ),
    lost(
        "timer_expired_backup",
        "vipd has no such setting: its adverts do not wait for anything else",
        "remove it",
    ),
    lost(
        "owner_ignore_adverts",
        "vipd's owner hears other owners",
        "remove it",
    ),
    idle("log_fault", BY_ITSELF),
    idle("nftables", NFTABLES),
    idle("thread_timer", ONE_PROCESS),
    idle("garp_interval", "vipd sends its announcements 30 ms apart"),
    idle("gna_interval", "vipd sends its announcements 30 ms apart"),
    lost("rogue_counter", "vipd has no such setting", "remove it"),
    lost("notify_fifo", NO_FIFO, EVENTS),
    idle("configure_interface", BY_ITSELF),
];

/// `vrrp_sync_group`
pub(super) const GROUP: [Keyword; 6] = [
    lost("track_bfd", NO_BFD, FASTER),
    lost(
        "notify_deleted",
        "a group that a reload removes tells nobody",
        "remove it",
    ),
    lost("notify_priority_changes", NO_FIFO, EVENTS),
    lost("smtp_alert", NO_MAIL, HOOK),
    idle("notify_fifo", NO_FIFO),
    idle("debug", "the variable RUST_LOG says what is logged"),
];

/// `virtual_server`
pub(super) const SERVER: [Keyword; 7] = [
    lost(
        "omega",
        "vipd tells nobody of real servers when it stops",
        "remove it, or write ExecStopPost= in its systemd unit",
    ),
    lost("smtp_alert", NO_MAIL, HOOK),
    lost(
        "sorry_server_inhibit",
        "the sorry server is in the table only while it serves",
        "remove it",
    ),
    idle("warmup", "vipd spreads its checks by itself"),
    lost("flag-3", "no scheduler of the kernel has it", "remove it"),
    lost(
        "log_all_failures",
        "`vipctl check` and the metrics show every failure",
        "remove it",
    ),
    idle("hashed", "the kernel sets it by itself"),
];

/// `real_server`
pub(super) const REAL: [Keyword; 5] = [
    lost(
        "BFD_CHECK",
        NO_BFD,
        "write a check of type \"ping\" with a short interval",
    ),
    lost(
        "FILE_CHECK",
        "no check reads a file",
        "write a check of type \"script\" that reads it",
    ),
    lost("smtp_alert", NO_MAIL, HOOK),
    idle("snmp_name", NO_SNMP),
    idle("warmup", "vipd spreads its checks by itself"),
];

/// All checkers.
pub(super) const CHECK: [Keyword; 6] = [
    lost("bind_port", "vipd's checks take any port", "remove it"),
    idle("warmup", "vipd spreads its checks by itself"),
    idle(
        "log_all_failures",
        "`vipctl check` and the metrics show every failure",
    ),
    idle("fast_recovery", "vipd tries all URLs at the same time"),
    idle("nb_get_retry", "an old word; `retry` counts"),
    idle("http_protocol", "vipd speaks HTTP/1.1"),
];

/// Says what of a keyword is not translated.
pub(super) fn report(node: &Node, known: &[Keyword], of: &str, cx: &mut Context<'_>) {
    let word = node.keyword();
    let family = GLOBAL_FAMILIES
        .iter()
        .filter(|_| of == "global_defs")
        .find(|(beginning, _)| word.starts_with(beginning));
    let found = known.iter().find(|keyword| keyword.word == word);
    match found.or(family.map(|(_, keyword)| keyword)) {
        Some(keyword) if keyword.lost => cx.lost(node, keyword.message, keyword.help),
        Some(keyword) => cx.idle(node, keyword.message, keyword.help),
        None => {
            let mut words: Vec<&str> = known.iter().map(|keyword| keyword.word).collect();
            words.extend(translated(of).split_whitespace());
            let help = match text::closest(word, &words) {
                Some(close) => format!("did you mean {close:?}?"),
                None => "it is left out of the result".to_owned(),
            };
            let message = format!("not known in {of}");
            cx.lost(node, message, help);
        }
    }
}

/// The words that are translated.
fn translated(of: &str) -> &'static str {
    match of {
        "keepalived.conf" => {
            "global_defs vrrp_instance vrrp_sync_group vrrp_script track_file vrrp_track_process \
             virtual_server virtual_server_group"
        }
        "global_defs" => {
            "router_id lvs_timeouts lvs_sync_daemon vrrp_mcast_group4 vrrp_mcast_group6 vrrp_version \
             vrrp_strict vrrp_startup_delay vrrp_down_timer_adverts script_user vrrp_min_garp \
             vrrp_garp_master_delay vrrp_garp_master_repeat vrrp_garp_master_refresh"
        }
        "vrrp_instance" => {
            "state interface virtual_router_id version priority advert_int nopreempt preempt \
             preempt_delay accept no_accept strict_mode down_timer_adverts use_vmac vmac_xmit_base \
             authentication unicast_src_ip unicast_peer unicast_ttl virtual_ipaddress \
             virtual_ipaddress_excluded virtual_routes virtual_rules track_interface track_script \
             track_file track_process notify notify_master notify_backup notify_fault notify_stop \
             garp_master_delay garp_master_repeat garp_master_refresh"
        }
        "virtual_server" => {
            "lvs_sched lb_algo lvs_method lb_kind ops persistence_engine persistence_timeout \
             persistence_granularity ha_suspend virtualhost weight quorum hysteresis \
             inhibit_on_failure snmp_name protocol real_server sorry_server quorum_up quorum_down \
             delay_loop connect_timeout retry delay_before_retry alpha"
        }
        "real_server" => {
            "weight lvs_method lb_kind uthreshold lthreshold inhibit_on_failure virtualhost notify_up \
             notify_down TCP_CHECK HTTP_GET SSL_GET SMTP_CHECK DNS_CHECK UDP_CHECK PING_CHECK \
             MISC_CHECK delay_loop connect_timeout retry delay_before_retry alpha"
        }
        "authentication" => "auth_type auth_pass",
        "vrrp_script" => "script interval timeout weight rise fall user",
        "url" => "path digest status_code virtualhost regex",
        _ => "connect_ip connect_port bindto connect_timeout url misc_path misc_timeout type name",
    }
}

/// Says that nothing is behind the words that are read.
pub(super) fn extra(node: &Node, read: usize, cx: &mut Context<'_>) {
    if let Some(word) = node.args().get(read) {
        let message = format!("{:?} is not read here", word.text);
        cx.notes.lost(
            &word.place,
            &node.path,
            message,
            "it is left out of the result",
        );
    }
}
