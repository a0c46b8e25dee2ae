//! Messages as JSON after their length, and open files beside them.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Open files in one message, at most.
const FILES: usize = 8;
/// No message is as long as that: a configuration has 8 MiB at most, and there may be two.
const LONGEST: u32 = 256 << 20;

fn framed(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(body);
    Ok(bytes)
}

fn length(head: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_ne_bytes(head);
    if length > LONGEST {
        return Err(io::Error::other("that is no message of vipd"));
    }
    usize::try_from(length).map_err(io::Error::other)
}

/// The words of the error could have a piece of a secret in them.
fn understood<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body)
        .map_err(|error| io::Error::other(format!("not understood (column {})", error.column())))
}

pub(super) async fn say(to: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&framed(message)?).await
}

pub(super) async fn hear<T: DeserializeOwned>(from: &mut UnixStream) -> io::Result<T> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    let mut body = vec![0; length(head)?];
    from.read_exact(&mut body).await?;
    understood(&body)
}

pub(super) fn say_blocking(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&framed(message)?)
}

pub(super) fn hear_blocking<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let mut body = vec![0; length(head)?];
    from.read_exact(&mut body)?;
    understood(&body)
}

/// Hands open files over. The socket must be empty yet, so that it takes them without waiting.
pub(super) fn send_files(to: impl AsFd, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many open files for one message"));
    }
    let count = u8::try_from(files.len()).map_err(io::Error::other)?;
    sendmsg(
        to,
        &[IoSlice::new(&[count])],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Takes open files in.
pub(super) fn receive_files(from: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut count = [0];
    let received = recvmsg(
        from,
        &mut [IoSliceMut::new(&mut count)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    if received.bytes != 1 || files.len() != usize::from(count[0]) {
        return Err(io::Error::other("the open files did not come"));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as Pair;

    use super::*;

    #[test]
    fn files_and_messages_arrive_as_they_were_sent() {
        let (ours, theirs) = Pair::pair().unwrap();
        let (one, other) = Pair::pair().unwrap();
        send_files(&ours, &[one.as_fd(), other.as_fd()]).unwrap();
        say_blocking(&ours, &("hello", 3)).unwrap();
        let files = receive_files(&theirs).unwrap();
        assert_eq!(files.len(), 2);
        let heard: (String, u8) = hear_blocking(&theirs).unwrap();
        assert_eq!(heard, ("hello".to_owned(), 3));
        let mut passed = Pair::from(files.into_iter().next().unwrap());
        passed.write_all(b"x").unwrap();
        let mut byte = [0];
        (&other).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn what_is_no_message_is_an_error_and_takes_no_memory() {
        let (mut ours, theirs) = Pair::pair().unwrap();
        ours.write_all(&[0xff; 64]).unwrap();
        assert!(hear_blocking::<String>(&theirs).is_err());
        let (ours, theirs) = Pair::pair().unwrap();
        say_blocking(&ours, &1).unwrap();
        drop(ours);
        assert!(hear_blocking::<String>(&theirs).is_err());
        assert!(hear_blocking::<String>(&theirs).is_err());
        assert!(receive_files(&theirs).is_err());
    }
}
