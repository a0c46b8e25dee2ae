//! `type = "grpc"`: the health service that gRPC servers have in common (`grpc.health.v1`).

use health::{CheckKind, GrpcSpec};

use super::super::section::Section;
use super::super::text;
use super::{Type, tls};

pub(super) const TYPE: Type = Type {
    name: "grpc",
    fall: super::FALL,
    keys: &["service", "host", "tls"],
    tls: true,
    read,
};

fn read(s: &mut Section<'_>) -> Option<CheckKind> {
    let service = s.or("service", String::new(), |v| v.parse(text::grpc_service));
    let host = s.maybe("host", |v| v.parse(text::http_host));
    let tls = tls::where_asked(s, "tls");
    Some(CheckKind::Grpc(GrpcSpec {
        service: service?,
        host: host?,
        tls: tls?,
    }))
}
