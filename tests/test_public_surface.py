"""What is public is meant to be."""

import subprocess
import sys

import connectplugin
import connectplugin_interceptors


def test_every_name_of_connectplugin_can_be_had() -> None:
    for name in connectplugin.__all__:
        assert getattr(connectplugin, name) is not None
    assert list(connectplugin.__all__) == sorted(
        connectplugin.__all__, key=lambda name: (name[0].islower(), name)
    )


def test_all_policies_and_errors_of_the_interceptors_are_in_connectplugin_too() -> None:
    missing = set(connectplugin_interceptors.__all__) - set(connectplugin.__all__)
    assert missing == set()
    for name in connectplugin_interceptors.__all__:
        assert getattr(connectplugin, name) is getattr(connectplugin_interceptors, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(connectplugin, "Cleint")


def test_the_command_line_does_not_load_what_it_does_not_need() -> None:
    code = "import sys, connectplugin.cli; print('connectrpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
