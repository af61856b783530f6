"""Of a Jetson's cameras, and of what `doctor` says of them."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_DECODERS, _DOCTOR = "edge/sources/decoders.py", "edge/commands/doctor"
_CAMERA_TESTS, _ORDER_TESTS = (
    "tests/edge/sources/test_jetson.py",
    "tests/edge/commands/test_doctor_load_order.py",
)
_USB, _LOSS = (
    f"{_CAMERA_TESTS}::test_a_usb_camera_that_sends_jpeg[I420]",
    f"{_CAMERA_TESTS}::test_damaged_pictures_are_left_out_and_counted[264]",
)


CAMERAS = (
    Mutation(
        "pictures wait in the decoder",
        _DECODERS,
        '"disable-dpb": self._live',
        '"disable-dpb": False',
        f"{_CAMERA_TESTS}::test_an_rtsp_camera_is_not_held_back[264-]",
    ),
    Mutation(
        "the decoder is not at its fastest",
        _DECODERS,
        '"enable-max-performance": True',
        '"enable-max-performance": False',
        f"{_CAMERA_TESTS}::test_an_rtsp_camera_is_not_held_back[264-]",
    ),
    Mutation(
        "a property is set that is not there",
        _DECODERS,
        "if element.find_property(key):",
        "if True:",
        f"{_CAMERA_TESTS}::test_an_rtsp_camera_is_not_held_back[264-enable-max-performance]",
    ),
    Mutation(
        "what may be a file is not reordered",
        "edge/sources/gst_source.py",
        'live=address.kind == "rtsp"',
        "live=True",
        f"{_CAMERA_TESTS}::test_a_user_may_set_the_decoder",
    ),
    Mutation(
        "the hardware decodes JPEG",
        _DECODERS,
        "if jpeg and factory",
        "if False and factory",
        _USB,
    ),
    Mutation(
        "nvjpegdec decodes JPEG",
        "edge/video/gstreamer.py",
        "broken.set_rank(Gst.Rank.NONE)",
        "pass",
        _USB,
    ),
    Mutation(
        "nvvidconv converts what jpegdec gives",
        "edge/sources/pipeline.py",
        'converter = "videoconvert"  # as for http',
        "pass",
        f"{_CAMERA_TESTS}::test_a_usb_camera_that_sends_jpeg[GRAY8]",
    ),
    Mutation(
        "colours are read behind the converter",
        "edge/sources/gst_source.py",
        "layout_of_caps(caps, decoded)",
        "layout_of_caps(caps, caps)",
        f"{_CAMERA_TESTS}::test_colours_survive_the_converter",
    ),
    Mutation(
        "damaged pictures go into the decoder",
        _DECODERS,
        "if not self._waiting:",
        "if True:",
        _LOSS,
    ),
    Mutation(
        "only the first damaged picture is left out",
        _DECODERS,
        "self._waiting or buffer",
        "buffer",
        _LOSS,
    ),
    Mutation(
        "damaged pictures are not counted",
        _DECODERS,
        "self._setup.damaged += 1",
        "pass",
        _LOSS,
    ),
    Mutation(
        "the trial of nvvidconv converts nothing",
        "edge/sources/pipeline.py",
        '"nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv ! video/x-raw,format=I420"',
        '"nvvidconv ! video/x-raw,format=I420"',
        f"{_CAMERA_TESTS}::test_a_board_whose_video_hardware_is_hidden",
    ),
    Mutation(
        "plug-ins are loaded without TensorRT",
        f"{_DOCTOR}/machine.py",
        'modules += ["pycuda.driver", "tensorrt"]',
        "pass",
        f"{_ORDER_TESTS}::test_a_plugin_that_loads_alone_but_not_in_a_run",
    ),
    Mutation(
        "modules are loaded without those of a run",
        f"{_DOCTOR}/machine.py",
        'modules = ["edge.commands.run.run"] if',
        "modules = [] if",
        f"{_ORDER_TESTS}::test_a_module_that_loads_alone_but_not_in_a_run",
    ),
    Mutation(
        "a plug-in that does not load is absent",
        "edge/video/gstreamer.py",
        "if path.endswith(file)",
        "if False",
        f"{_ORDER_TESTS}::test_a_plugin_that_never_loads",
    ),
)
