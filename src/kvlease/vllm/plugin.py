"""The entry point `vllm.general_plugins`: with kvlease installed, `"kv_connector": "LeasedNixlConnector"` is enough."""

NAME = "LeasedNixlConnector"


def register() -> None:
    """Make the connector known to vLLM by name. vLLM calls it in each of its processes, some of them more than once."""
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    if NAME not in KVConnectorFactory._registry:
        KVConnectorFactory.register_connector(NAME, "kvlease.vllm", NAME)
