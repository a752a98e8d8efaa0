//! What messages cost the three processes that have to do with them.

use std::time::{Duration, Instant};

use crate::process::{Stack, own_cpu};

/// CPU and time since a moment.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    stack: &'a Stack,
    cpu: [Duration; 3],
    start: Instant,
}

/// CPU and time of some messages. CPU times are in microseconds per message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) service_us: f64,
    pub(crate) sandbox_us: f64,
    /// Of the callers: this process.
    pub(crate) callers_us: f64,
    pub(crate) messages_per_second: f64,
}

impl<'a> Meter<'a> {
    pub(crate) fn start(stack: &'a Stack) -> anyhow::Result<Self> {
        Ok(Self { stack, cpu: cpu(stack)?, start: Instant::now() })
    }

    /// What this many messages have cost since the meter was started.
    pub(crate) fn read(&self, messages: u64) -> anyhow::Result<Cost> {
        let wall = self.start.elapsed().as_secs_f64();
        let cpu = cpu(self.stack)?;
        let messages = messages as f64;
        let us = |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() * 1e6 / messages;
        Ok(Cost {
            service_us: us(cpu[0], self.cpu[0]),
            sandbox_us: us(cpu[1], self.cpu[1]),
            callers_us: us(cpu[2], self.cpu[2]),
            messages_per_second: messages / wall,
        })
    }
}

fn cpu(stack: &Stack) -> anyhow::Result<[Duration; 3]> {
    Ok([stack.service.cpu()?, stack.sandbox.cpu()?, own_cpu()?])
}
