"""The command line with the tiny backbone on several virtual CPU devices.

`python -m tests.support.devices N ARGUMENT…`; TensorFlow divides a processor only before its start.
"""

import sys

from tests.support import tiny


def divide(devices: int) -> None:
    """Make several devices of the processor, in this process."""
    from tlcli import backbones

    config = backbones.tensorflow_module().config
    (processor,) = config.list_physical_devices("CPU")
    parts = [config.LogicalDeviceConfiguration()] * devices
    config.set_logical_device_configuration(processor, parts)


if __name__ == "__main__":
    from tlcli.cli import main

    divide(int(sys.argv.pop(1)))
    tiny.install()
    sys.argv[0] = "tlcli"
    main()
