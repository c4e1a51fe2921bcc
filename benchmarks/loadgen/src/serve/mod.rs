//! Servers without an interpreter: the limit that loops are held against, and the peer of clients
//! that are measured. A service prints its port (or its path) and runs until it is killed.

mod datagrams;
mod streams;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;

use crate::args::{Listen, ServeArgs};
use crate::epoll::Epoll;
use crate::system;

pub fn run(args: &ServeArgs) -> Result<(), String> {
    system::tie_to_parent();
    if let Some(core) = args.core {
        system::pin_to_core(core)?;
    }
    system::raise_file_limit();
    let epoll = if args.spin { Epoll::spinning() } else { Epoll::waiting() }?;
    let failed = |error: std::io::Error| format!("cannot listen: {error}");
    let localhost = (Ipv4Addr::LOCALHOST, 0);
    match &args.listen {
        Listen::Tcp => {
            let listener = TcpListener::bind(localhost).map_err(failed)?;
            println!("{}", listener.local_addr().map_err(failed)?.port());
            streams::serve(args, epoll, streams::Listener::Tcp(listener))
        }
        Listen::Unix(path) => {
            let listener = UnixListener::bind(path).map_err(failed)?;
            println!("{}", path.display());
            streams::serve(args, epoll, streams::Listener::Unix(listener))
        }
        Listen::Udp => {
            let socket = UdpSocket::bind(localhost).map_err(failed)?;
            println!("{}", socket.local_addr().map_err(failed)?.port());
            datagrams::echo(epoll, &socket)
        }
    }
}
