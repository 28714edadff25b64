//! `tensorflow.ProfilerService`, which has no TensorFlow to profile here.

use tonic::{Request, Response, Status};

use proto::tensorflow as pb;

/// Answers every call with UNIMPLEMENTED.
pub(super) struct ProfilerServiceImpl;

fn unsupported<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented(
        "this server has no TensorFlow profiler",
    ))
}

#[tonic::async_trait]
impl pb::profiler_service_server::ProfilerService for ProfilerServiceImpl {
    async fn profile(
        &self,
        _: Request<pb::ProfileRequest>,
    ) -> Result<Response<pb::ProfileResponse>, Status> {
        unsupported()
    }

    async fn terminate(
        &self,
        _: Request<pb::TerminateRequest>,
    ) -> Result<Response<pb::TerminateResponse>, Status> {
        unsupported()
    }

    async fn monitor(
        &self,
        _: Request<pb::MonitorRequest>,
    ) -> Result<Response<pb::MonitorResponse>, Status> {
        unsupported()
    }
}
