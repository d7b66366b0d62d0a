//! The function's process: two runtimes, and Lambda's loop of events, each for one of the two triggers.
//!
//! Nothing here can fail before an event is read: whatever is wrong is answered, event by event.

use std::future::Future;
use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use tokio::runtime::Builder;

use crate::cloudformation::handler::{Invocation, handle};
use crate::cloudformation::responder::{self, Responder};
use crate::cloudformation::stack::Stacks;
use crate::ports::{Change, Look, Ports, Records};
use crate::watch::{self, Trigger};

/// As much as a main thread has, of which only what is used is memory. The release uses less than half a MiB of it; a debug build
/// more than the 2 MiB that tokio gives, and after an overflow CloudFormation gets no answer.
const STACK_BYTES: usize = 8 << 20;

/// Serves events until Lambda ends the process. `ports` makes the ports, or says which setting is wrong.
///
/// # Errors
/// No thread can be started, TLS cannot be set up, or the Runtime API is gone.
pub fn run<E, R, S, M>(ports: impl Future<Output = Result<Ports<E, R, S>, M>>) -> Result<(), Error>
where
    E: Look + Change + 'static,
    R: Records + 'static,
    S: Stacks + 'static,
    M: ToString,
{
    // Whatever the work does to its thread, this one answers.
    let worker = Builder::new_multi_thread().worker_threads(1).thread_stack_size(STACK_BYTES).enable_all().build()?;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = responder::client()?;
        let ports = ports.await.map(Arc::new).map_err(|error| error.to_string());
        let (client, ports, worker) = (&client, &ports, worker.handle());
        lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
            let log_stream = std::env::var("AWS_LAMBDA_LOG_STREAM_NAME").unwrap_or_default();
            let invocation = Invocation { deadline_ms: event.context.deadline, log_stream };
            if let Some(trigger) = Trigger::read(&event.payload) {
                return watch::handle(ports, worker, trigger, &invocation).await.map_err(Error::from);
            }
            let reply = |url, budget| Responder::new(client.clone(), url, budget);
            handle(ports, worker, event.payload, &invocation, reply).await.map_err(Error::from)
        }))
        .await
    })
}
