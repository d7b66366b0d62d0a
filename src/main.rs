//! The Lambda function. Nothing here can fail before an event is read: whatever is wrong is answered, event by event.

use std::sync::Arc;

use ec2_isolation::handler::{Invocation, handle};
use ec2_isolation::responder::{self, Responder};
use ec2_isolation::{config, log};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use tokio::runtime::{Builder, Handle};

fn main() -> Result<(), Error> {
    log::init();
    // Whatever the work does to its threads, this one answers.
    let worker = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    Builder::new_current_thread().enable_all().build()?.block_on(serve(worker.handle()))
}

async fn serve(worker: &Handle) -> Result<(), Error> {
    let client = responder::client()?;
    let ports = config::aws().await.map(Arc::new).map_err(|error| error.to_string());
    let (client, ports) = (&client, &ports);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let log_stream = std::env::var("AWS_LAMBDA_LOG_STREAM_NAME").unwrap_or_default();
        let invocation = Invocation { deadline_ms: event.context.deadline, log_stream };
        let reply = |url, budget| Responder::new(client.clone(), url, budget);
        handle(ports, worker, event.payload, &invocation, reply).await.map_err(Error::from)
    }))
    .await
}
