//! `genarm rpc-server`

use std::net::IpAddr;

use super::Usage;
use crate::engine::llama::rpc;
use crate::engine::threads::n_cores;

/// Lend this machine's devices to a genarm elsewhere, over ggml's RPC
///
/// The client connects with --rpc HOST:PORT. There is no authentication and no encryption, and any client that can
/// connect can read and write this process's memory: keep the default address, and let other machines come through an
/// SSH tunnel. One client is served at a time. Ends with Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// IPv4 address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on
    #[arg(long, value_name = "PORT", default_value_t = 50052, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Device to lend; repeatable [default: all GPUs, or the CPU]
    #[arg(long, value_name = "NAME")]
    device: Vec<String>,
    /// Threads of the CPU [default: the physical cores]
    #[arg(long, short = 't', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
}

/// Serves until the process is ended.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if !args.host.is_ipv4() {
        return Err(Usage(format!("--host takes an IPv4 address, such as 127.0.0.1, got {}", args.host)).into());
    }
    if !args.host.is_loopback() {
        tracing::warn!(host = %args.host, "RPC has no authentication: any client that reaches this address controls this process");
    }
    let threads = args.threads.unwrap_or_else(n_cores);
    Ok(rpc::serve(&format!("{}:{}", args.host, args.port), &args.device, threads)?)
}
