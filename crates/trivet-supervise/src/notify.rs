//! What a service manager is told (the protocol of systemd's `sd_notify`: one datagram).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says it to the socket in `NOTIFY_SOCKET`; nothing where there is none.
pub(crate) fn notify(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // A manager that does not listen is no reason to stop serving.
    let _ = tell(path.as_encoded_bytes(), text);
}

fn tell(path: &[u8], text: &str) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let name = format!("trivet-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let at_path = UnixDatagram::bind(&path).unwrap();
        let at_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        tell(path.as_os_str().as_encoded_bytes(), "READY=1").unwrap();
        tell(format!("@{name}").as_bytes(), "STOPPING=1").unwrap();
        let mut buffer = [0; 64];
        let got = at_path.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..got], b"READY=1");
        let got = at_name.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..got], b"STOPPING=1");
        std::fs::remove_file(path).unwrap();
    }
}
