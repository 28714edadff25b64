//! Checks that involve more than one flag, made before anything is started.

use super::declare::Effect;
use super::table::{FLAGS, Flags};
use base::error::{Result, ServingError};

impl Flags {
    /// Checks the flags against each other, in TensorFlow Serving's order (`model_servers/server.cc`),
    /// then for flags that this server cannot honour.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with TensorFlow Serving's text; `UNIMPLEMENTED` for a flag that asks for
    /// something this server does not have and must not pretend to.
    pub fn validate(&self) -> Result<()> {
        let contradictions = [
            (
                self.port == 0 && self.grpc_socket_path.is_empty(),
                "At least one of server_options.grpc_port or server_options.grpc_socket_path must \
                 be set.",
            ),
            (
                self.use_alts_credentials && !self.ssl_config_file.is_empty(),
                "Either use_alts_credentials must be false or ssl_config_file must be empty.",
            ),
            (
                self.model_base_path.is_empty() && self.model_config_file.is_empty(),
                "Both server_options.model_base_path and server_options.model_config_file are \
                 empty!",
            ),
            (
                !self.batching_parameters_file.is_empty() && !self.enable_batching,
                "server_options.batching_parameters_file is set without setting \
                 server_options.enable_batching to true.",
            ),
            (
                self.tensorflow_session_parallelism > 0
                    && self.tensorflow_intra_op_parallelism > 0
                    && self.tensorflow_inter_op_parallelism > 0,
                "Either configure server_options.tensorflow_session_parallelism or \
                 (server_options.tensorflow_intra_op_parallelism, \
                 server_options.tensorflow_inter_op_parallelism) separately. You cannot configure \
                 all.",
            ),
        ];
        let own_contradictions = [(
            self.rest_api_use_ssl && self.ssl_config_file.is_empty(),
            "--rest_api_use_ssl needs --ssl_config_file",
        )];
        let mut contradictions = contradictions.iter().chain(&own_contradictions);
        match contradictions.find(|(wrong, _)| *wrong) {
            Some((_, text)) => Err(ServingError::invalid_argument(*text)),
            None => self.check_refused(),
        }
    }

    fn check_refused(&self) -> Result<()> {
        let (mut flags, mut defaults) = (self.clone(), Self::default());
        for definition in FLAGS {
            if let Effect::Refused(reason) = definition.effect
                && definition.differs(&mut flags, &mut defaults)
            {
                return Err(ServingError::unimplemented(format!(
                    "--{}: {reason}",
                    definition.name
                )));
            }
        }
        Ok(())
    }
}
