//! The words of the file: each parses one kind of string, or says what is wrong with it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::vrrp::Family;
use ipnet::IpNet;

pub(super) use super::suggest::closest;

/// Longest name of an interface, in bytes: `IFNAMSIZ` (linux/if.h) less the final NUL.
const INTERFACE_NAME_MAX: usize = 15;
/// Longest path of a unix socket, in bytes: `sun_path` (linux/un.h) less the final NUL.
const SOCKET_PATH_MAX: usize = 107;
/// Longest name of a process, in bytes: `TASK_COMM_LEN` (linux/sched.h) less the final NUL.
const PROCESS_NAME_MAX: usize = 15;
/// Longest name of an object, in characters.
const NAME_MAX: usize = 64;
/// Longest host name, in bytes (RFC 1035 §2.3.4).
const HOST_NAME_MAX: usize = 253;

/// What is wrong with a string, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) help: String,
}

fn complain<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Complaint> {
    Err(Complaint {
        message: message.into(),
        help: help.into(),
    })
}

/// The name of an object: what logs, metrics and vipctl call it.
pub(super) fn name(text: &str) -> Result<String, Complaint> {
    let characters = text.chars().count();
    let good = (1..=NAME_MAX).contains(&characters)
        && text.trim() == text
        && !text.chars().any(char::is_control);
    if good {
        Ok(text.to_owned())
    } else {
        complain(
            format!("{text:?} is not a name"),
            format!("write 1 to {NAME_MAX} printable characters, no space at either end"),
        )
    }
}

/// The name of a network interface.
pub(super) fn interface(text: &str) -> Result<String, Complaint> {
    let good = (1..=INTERFACE_NAME_MAX).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if good {
        Ok(text.to_owned())
    } else {
        complain(
            format!("{text:?} is not the name of an interface"),
            format!(
                "write the name as `ip link` shows it, at most {INTERFACE_NAME_MAX} bytes, such as \"eth0\""
            ),
        )
    }
}

/// An absolute path.
pub(super) fn path(text: &str) -> Result<PathBuf, Complaint> {
    if Path::new(text).is_absolute() && !text.contains('\0') {
        Ok(PathBuf::from(text))
    } else {
        complain(
            format!("{text:?} is not an absolute path"),
            "write the whole path, beginning with /",
        )
    }
}

/// The path of a unix socket.
pub(super) fn socket_path(text: &str) -> Result<PathBuf, Complaint> {
    let path = path(text)?;
    if text.len() > SOCKET_PATH_MAX {
        return complain(
            format!(
                "the path has {} bytes, too many for a unix socket",
                text.len()
            ),
            format!("write a path of at most {SOCKET_PATH_MAX} bytes"),
        );
    }
    Ok(path)
}

/// Where a TCP listener is.
pub(super) fn listener(text: &str) -> Result<SocketAddr, Complaint> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) | Err(_) => complain(
            format!("{text:?} is not an IP address and a port"),
            "write one such as \"127.0.0.1:9650\"",
        ),
    }
}

/// A duration; `help` is shown where it is none.
pub(super) fn duration<H: Into<String>>(
    text: &str,
    help: impl FnOnce() -> H,
) -> Result<Duration, Complaint> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) && text != "0" {
        return complain(
            format!("{text:?} has no unit"),
            format!("write \"{text}s\" for seconds, \"{text}ms\" for milliseconds"),
        );
    }
    match humantime::parse_duration(text) {
        Ok(duration) => Ok(duration),
        Err(_) => complain(format!("{text:?} is not a duration"), help()),
    }
}

/// A share of the whole.
pub(super) fn percent(text: &str) -> Result<u8, Complaint> {
    let number = text
        .strip_suffix('%')
        .and_then(|number| number.parse().ok());
    match number.filter(|percent| *percent <= 100) {
        Some(percent) => Ok(percent),
        None => complain(
            format!("{text:?} is neither a number nor a share"),
            "write \"0%\" to \"100%\", or a whole number without quotes",
        ),
    }
}

/// A duration as people write it.
pub(crate) fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() != 0 {
        format!("{duration:?}")
    } else if seconds != 0 && seconds.is_multiple_of(3600) {
        format!("{}h", seconds / 3600)
    } else if seconds != 0 && seconds.is_multiple_of(60) {
        format!("{}m", seconds / 60)
    } else {
        format!("{seconds}s")
    }
}

/// The address of a virtual server: `192.168.1.10:80`, `[2001:db8::1]:80`; port 0 is every port.
pub(super) fn service_address(text: &str) -> Result<SocketAddr, Complaint> {
    let example = "write an IP address and a port, such as \"192.168.1.10:80\" or \"[2001:db8::10]:80\"; port 0 is every port";
    match endpoint(text, example)? {
        (ip, Some(port)) => Ok(SocketAddr::new(ip, port)),
        (_, None) => complain(format!("{text:?} has no port"), example),
    }
}

/// The address of a real server, with or without a port.
pub(super) fn server_address(text: &str) -> Result<(IpAddr, Option<u16>), Complaint> {
    endpoint(
        text,
        "write an IP address, and a port where it differs, such as \"10.0.0.21:80\" or \"[2001:db8::21]:80\"",
    )
}

/// An IP address that one host can have.
pub(super) fn host_address(text: &str) -> Result<IpAddr, Complaint> {
    match endpoint(text, "write an IP address, such as \"10.0.0.21\"")? {
        (ip, None) => Ok(ip),
        (ip, Some(_)) => complain(
            format!("{text:?} has a port, but only an address goes here"),
            format!("write \"{ip}\", and the port in the key `port`"),
        ),
    }
}

/// A virtual address as interfaces carry it: `192.168.1.10/24`, without a length /32 or /128.
pub(super) fn virtual_address(text: &str) -> Result<IpNet, Complaint> {
    let example = "write an address and its prefix length, such as \"192.168.1.10/24\" or \"2001:db8::10/64\"";
    let Some(net) = net(text) else {
        return complain(format!("{text:?} is not an IP address"), example);
    };
    if let Some(why) = not_one_host(net.addr()) {
        return complain(format!("{} is {why}", net.addr()), example);
    }
    if net.addr().is_loopback() {
        return complain(format!("{} is a loopback address", net.addr()), example);
    }
    if net.prefix_len() == 0 {
        return complain("a prefix length of 0 covers the whole Internet", example);
    }
    if let Some(why) = not_a_host_of(net) {
        return complain(
            format!("{} is the {why} of {}", net.addr(), net.trunc()),
            "write the address of a host, with the prefix length of its network",
        );
    }
    Ok(net)
}

fn not_a_host_of(net: IpNet) -> Option<&'static str> {
    // RFC 3021, RFC 6164: networks of two addresses have nothing but hosts.
    if net.max_prefix_len().saturating_sub(net.prefix_len()) <= 1 {
        return None;
    }
    match net {
        IpNet::V4(net) if net.addr() == net.network() => Some("network address"),
        IpNet::V4(net) if net.addr() == net.broadcast() => Some("broadcast address"),
        IpNet::V6(net) if net.addr() == net.network() => Some("subnet-router anycast address"),
        IpNet::V4(_) | IpNet::V6(_) => None,
    }
}

fn net(text: &str) -> Option<IpNet> {
    let host = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().or_else(host)
}

/// The label of an address: what `ifconfig` calls it.
pub(super) fn address_label(text: &str) -> Result<String, Complaint> {
    let good = (1..=INTERFACE_NAME_MAX).contains(&text.len())
        && !text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
    if good {
        Ok(text.to_owned())
    } else {
        complain(
            format!("{text:?} is not a label"),
            format!(
                "write the interface and a word, at most {INTERFACE_NAME_MAX} bytes, such as \"eth0:vip\""
            ),
        )
    }
}

/// An IP address that one host can have, and nothing else.
pub(super) fn ip_address(text: &str) -> Result<IpAddr, Complaint> {
    let example = "write an IP address, such as \"192.168.1.2\"";
    if let Some((address, _)) = text.split_once('%') {
        return complain(
            format!("{text:?} has an interface, but only an address goes here"),
            format!("write {address:?}"),
        );
    }
    match endpoint(text, example)? {
        (ip, None) => Ok(ip),
        (ip, Some(_)) => complain(
            format!("{text:?} has a port, but only an address goes here"),
            format!("write \"{ip}\""),
        ),
    }
}

/// A network, or one address: where packets come from or go to.
pub(super) fn network(text: &str) -> Result<IpNet, Complaint> {
    let Some(net) = net(text) else {
        return complain(
            format!("{text:?} is not a network"),
            "write an address and a prefix length, such as \"10.9.0.0/16\"",
        );
    };
    if net.addr() != net.network() {
        return complain(
            format!("{net} has bits set outside its prefix"),
            format!(
                "write \"{}\" for the network, or \"{}\" for the host",
                net.trunc(),
                net.addr()
            ),
        );
    }
    Ok(net)
}

/// What people call a family.
pub(super) fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The name of a process, as `/proc/PID/comm` has it.
pub(super) fn process(text: &str) -> Result<String, Complaint> {
    if text.is_empty() || text.contains(|c: char| c == '/' || c.is_control()) {
        return complain(
            format!("{text:?} is not the name of a process"),
            "write the name as `ps -o comm` shows it, such as \"nginx\"",
        );
    }
    if text.len() > PROCESS_NAME_MAX {
        let kept = text.char_indices().map_while(|(at, c)| {
            let end = at.saturating_add(c.len_utf8());
            (end <= PROCESS_NAME_MAX).then_some(c)
        });
        return complain(
            format!("the kernel keeps only {PROCESS_NAME_MAX} bytes of the name of a process"),
            format!("write {:?}", kept.collect::<String>()),
        );
    }
    Ok(text.to_owned())
}

/// An argument of a program.
pub(super) fn argument(text: &str) -> Result<String, Complaint> {
    if text.contains('\0') {
        complain("has a NUL character", "remove it: programs cannot get it")
    } else {
        Ok(text.to_owned())
    }
}

fn endpoint(text: &str, example: &str) -> Result<(IpAddr, Option<u16>), Complaint> {
    let (ip, port) = match split(text) {
        Some(found) => found,
        None if text.contains('%') => {
            return complain(
                format!("{text:?} has an interface, and IPVS knows only addresses"),
                example,
            );
        }
        None if looks_like_host_name(text) => {
            return complain(
                format!("{text:?} is a host name, and vipd does not resolve names"),
                "write its IP address: a balancer must not depend on the name service",
            );
        }
        None => {
            return complain(
                format!("{text:?} is not an IP address with or without a port"),
                example,
            );
        }
    };
    match not_one_host(ip) {
        Some(why) => complain(format!("{ip} is {why}"), example),
        None => Ok((ip, port)),
    }
}

fn split(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if text.contains('%') {
        return None;
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), Some(address.port())));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some((ip, None));
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some((IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?), None))
}

/// Why a packet to this address does not go to one host (the kernel refuses most of these).
fn not_one_host(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets().first() == Some(&0) => Some("not the address of a host"),
        _ if ip.is_unspecified() => Some("not the address of a host"),
        _ if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Some("an IPv4 address in IPv6 clothes, write it as IPv4")
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn looks_like_host_name(text: &str) -> bool {
    let host = text.split(':').next().unwrap_or_default();
    host_name(host).is_ok()
        && host.contains(|c: char| c.is_ascii_alphabetic())
        && text.matches(':').count() <= 1
}

/// A host name in the sense of RFC 1123, or an address; used where nothing is resolved.
pub(super) fn host_name(text: &str) -> Result<String, Complaint> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() <= HOST_NAME_MAX && name.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        complain(
            format!("{text:?} is not a host name"),
            "write a name such as \"www.example.com\"",
        )
    }
}

/// A `Host` header: a name or an address, with or without a port (RFC 9110 §7.2).
pub(super) fn http_host(text: &str) -> Result<String, Complaint> {
    let example = "write a name such as \"www.example.com\" or \"www.example.com:8080\"";
    let is_address = text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4())
        || text.parse::<SocketAddr>().is_ok()
        || split(text).is_some_and(|_| text.starts_with('['));
    let (host, port) = text.split_once(':').unwrap_or((text, "1"));
    if is_address || (host_name(host).is_ok() && port.parse::<u16>().is_ok()) {
        Ok(text.to_owned())
    } else {
        complain(format!("{text:?} is not a host"), example)
    }
}

/// The path and query of an HTTP request.
pub(super) fn http_path(text: &str) -> Result<String, Complaint> {
    let good = text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic() && c != '#');
    if good {
        Ok(text.to_owned())
    } else {
        complain(
            format!("{text:?} is not a request path"),
            "begin it with /, write spaces and non-ASCII characters as %XX, and leave out any #fragment",
        )
    }
}

/// A request method (RFC 9110 §9.1); methods are case-sensitive, and all that exist are upper-case.
pub(super) fn http_method(text: &str) -> Result<String, Complaint> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase() || c == '-') {
        Ok(text.to_owned())
    } else {
        complain(
            format!("{text:?} is not a request method"),
            "write it in capitals, such as \"GET\" or \"HEAD\"",
        )
    }
}

/// The name of a request header (RFC 9110 §5.1).
pub(super) fn header_name(text: &str) -> Result<String, Complaint> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if text.eq_ignore_ascii_case("host") {
        complain("the Host header has its own key", "write `host = \"...\"`")
    } else if !text.is_empty() && text.chars().all(token) {
        Ok(text.to_owned())
    } else {
        complain(
            format!("{text:?} is not the name of a header"),
            "write letters, digits and hyphens, such as \"X-Check\"",
        )
    }
}

/// The value of a request header (RFC 9110 §5.5), ASCII only.
pub(super) fn header_value(text: &str) -> Result<String, Complaint> {
    if text.trim() == text && text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        Ok(text.to_owned())
    } else {
        // Not the value itself: headers carry passwords.
        complain(
            "is not the value of a header",
            "write printable ASCII characters, no space at either end",
        )
    }
}

/// Text that is not empty.
pub(super) fn some_text(text: &str) -> Result<String, Complaint> {
    if text.is_empty() {
        complain(
            "is empty",
            "write at least one character, or leave the key out",
        )
    } else {
        Ok(text.to_owned())
    }
}

/// The SHA-256 of something, in hexadecimal.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], Complaint> {
    let digit = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    match bytes.and_then(|bytes| bytes.try_into().ok()) {
        Some(sum) => Ok(sum),
        None => complain(
            format!("{text:?} is not a SHA-256"),
            "write the 64 hexadecimal digits that `sha256sum` prints",
        ),
    }
}

/// The name of a gRPC service, or nothing for the whole server.
pub(super) fn grpc_service(text: &str) -> Result<String, Complaint> {
    if text.len() <= HOST_NAME_MAX && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        complain(
            format!("{text:?} is not the name of a service"),
            "write the name that the server registers, such as \"shop.v1.Orders\", or leave the key out for the whole server",
        )
    }
}

/// Lowest and highest status code (RFC 9110 §15 ends at 599; servers use up to 999).
pub(super) const STATUS: std::ops::RangeInclusive<u16> = 100..=999;

/// Status codes: `200-299,301`.
pub(super) fn status_ranges(text: &str) -> Result<Vec<(u16, u16)>, Complaint> {
    let code = |text: &str| {
        let text = text.trim();
        let digits = text.len() == 3 && text.chars().all(|c| c.is_ascii_digit());
        let code = text.parse::<u16>().ok().filter(|_| digits);
        code.filter(|code| STATUS.contains(code))
    };
    let range = |part: &str| match part.split_once('-') {
        Some((low, high)) => Some((code(low)?, code(high)?)).filter(|(low, high)| low <= high),
        None => code(part).map(|code| (code, code)),
    };
    let ranges: Option<Vec<(u16, u16)>> = text.split(',').map(range).collect();
    match ranges {
        Some(ranges) => Ok(ranges),
        None => complain(
            format!("{text:?} is not a list of status codes"),
            format!(
                "write codes from {} to {} and ranges, such as \"200-299,301\"",
                STATUS.start(),
                STATUS.end()
            ),
        ),
    }
}
