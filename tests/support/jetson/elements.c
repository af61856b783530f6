/* A stand-in for a Jetson's video elements: their names, ranks, properties and habits, as NVIDIA's
 * sources and forum state them. Pictures are decoded in software, and memory:NVMM is a label on
 * ordinary memory, which no other element takes.
 *
 * nvvidconv      I420 and NV12, NVMM or not; takes colorimetry and chroma-site out of the caps;
 *                hands on what has the right format already
 * nvv4l2decoder  leaves out damaged pictures without a word; without disable-dpb it holds back
 *                HELD_BACK pictures; takes image/jpeg, which needs mjpeg=1
 * nvjpegdec      fails
 * nvarguscamerasrc  a test picture in NVMM
 * usbcamera      not a Jetson's: takes the place of v4l2src; sends JPEG
 *
 * STAND_IN_CAMERA=FORMAT: of what usbcamera sends
 * STAND_IN_DEVICE=none: installed, but without the hardware: all that has to be done fails.
 * STAND_IN_LACKS=NAME: nvv4l2decoder has no such property, as in another release.
 * STAND_IN_LOG=FILE: nvv4l2decoder writes its settings, and a line for each compressed picture that
 * it receives. */

#include <gst/base/gstbasetransform.h>
#include <gst/gst.h>
#include <stdio.h>
#include <string.h>

#define HELD_BACK 8
#define NVMM "memory:NVMM"
#define RAW "video/x-raw, format=(string){ I420, NV12 }"
#define NV12_IN_NVMM "video/x-raw(" NVMM "), format=NV12"
#define ANY_MEMORY RAW "; video/x-raw(" NVMM "), format=(string){ I420, NV12 }"

static gboolean no_device(void) { return g_strcmp0(g_getenv("STAND_IN_DEVICE"), "none") == 0; }

/* sink, src: caps of its pads; NULL: it has none. */
static void describe(gpointer klass, const char* name, const char* kind, const char* sink,
                     const char* src) {
  gst_element_class_set_static_metadata(klass, name, kind, "A stand-in", "twostream");
  if (sink)
    gst_element_class_add_pad_template(
        klass,
        gst_pad_template_new("sink", GST_PAD_SINK, GST_PAD_ALWAYS, gst_caps_from_string(sink)));
  if (src)
    gst_element_class_add_pad_template(
        klass, gst_pad_template_new("src", GST_PAD_SRC, GST_PAD_ALWAYS, gst_caps_from_string(src)));
}

static GstPadTemplate* pad_of(gpointer element, const char* name) {
  return gst_element_class_get_pad_template(GST_ELEMENT_GET_CLASS(element), name);
}

/* nvvidconv */

typedef struct {
  GstBaseTransform parent;
  gboolean keeps_colours; /* within nvv4l2decoder, which states them */
  guint hold;             /* pictures that wait, until the stream ends */
  GQueue waiting;
  gboolean from_nv12, to_nv12;
  int width, height;
} Converter;
typedef GstBaseTransformClass ConverterClass;
G_DEFINE_TYPE(Converter, converter, GST_TYPE_BASE_TRANSFORM)

static GstCaps* converter_transform_caps(GstBaseTransform* base, GstPadDirection direction,
                                         GstCaps* caps, GstCaps* filter) {
  GstCaps* out = gst_caps_new_empty();
  for (guint i = 0; i < 2 * gst_caps_get_size(caps); i++) {
    GstStructure* one = gst_structure_copy(gst_caps_get_structure(caps, i / 2));
    GstCaps* formats = gst_caps_from_string(RAW);
    gst_structure_set_value(one, "format",
                            gst_structure_get_value(gst_caps_get_structure(formats, 0), "format"));
    gst_caps_unref(formats);
    if (direction == GST_PAD_SRC || !((Converter*)base)->keeps_colours)
      gst_structure_remove_fields(one, "colorimetry", "chroma-site", NULL);
    gst_caps_append_structure_full(out, one, i % 2 ? gst_caps_features_new(NVMM, NULL) : NULL);
  }
  if (filter) {
    GstCaps* both = gst_caps_intersect_full(filter, out, GST_CAPS_INTERSECT_FIRST);
    gst_caps_unref(out);
    out = both;
  }
  return out;
}

static gboolean is_nv12(GstCaps* caps) {
  return g_strcmp0(gst_structure_get_string(gst_caps_get_structure(caps, 0), "format"), "NV12") ==
         0;
}

static gboolean converter_set_caps(GstBaseTransform* base, GstCaps* in, GstCaps* out) {
  Converter* self = (Converter*)base;
  self->from_nv12 = is_nv12(in);
  self->to_nv12 = is_nv12(out);
  gst_structure_get_int(gst_caps_get_structure(in, 0), "width", &self->width);
  gst_structure_get_int(gst_caps_get_structure(in, 0), "height", &self->height);
  gst_base_transform_set_passthrough(
      base,
      self->from_nv12 == self->to_nv12 &&
          gst_caps_features_is_equal(gst_caps_get_features(in, 0), gst_caps_get_features(out, 0)));
  return TRUE;
}

static gboolean converter_unit_size(GstBaseTransform* base, GstCaps* caps, gsize* size) {
  int width, height;
  gst_structure_get_int(gst_caps_get_structure(caps, 0), "width", &width);
  gst_structure_get_int(gst_caps_get_structure(caps, 0), "height", &height);
  int rows = GST_ROUND_UP_2(height);
  int chroma =
      is_nv12(caps) ? GST_ROUND_UP_4(width) : 2 * GST_ROUND_UP_4(GST_ROUND_UP_2(width) / 2);
  *size = (gsize)GST_ROUND_UP_4(width) * rows + (gsize)chroma * (rows / 2);
  return TRUE;
}

/* The U (0) or V (1) value `x` of a chroma row, in either arrangement. */
static guint8* chroma(guint8* picture, gboolean nv12, const Converter* self, int v, int y, int x) {
  int rows = GST_ROUND_UP_2(self->height), luma = GST_ROUND_UP_4(self->width);
  if (nv12) return picture + luma * rows + luma * y + 2 * x + v;
  int stride = GST_ROUND_UP_4(GST_ROUND_UP_2(self->width) / 2);
  return picture + luma * rows + stride * (rows / 2) * v + stride * y + x;
}

static GstFlowReturn converter_transform(GstBaseTransform* base, GstBuffer* in, GstBuffer* out) {
  Converter* self = (Converter*)base;
  GstMapInfo from, to;
  if (no_device()) {
    GST_ELEMENT_ERROR(base, LIBRARY, INIT, ("no VIC"), (NULL));
    return GST_FLOW_ERROR;
  }
  gst_buffer_map(in, &from, GST_MAP_READ);
  gst_buffer_map(out, &to, GST_MAP_WRITE);
  memcpy(to.data, from.data, GST_ROUND_UP_4(self->width) * GST_ROUND_UP_2(self->height));
  for (int v = 0; v < 2; v++)
    for (int y = 0; y < (self->height + 1) / 2; y++)
      for (int x = 0; x < (self->width + 1) / 2; x++)
        *chroma(to.data, self->to_nv12, self, v, y, x) =
            *chroma(from.data, self->from_nv12, self, v, y, x);
  gst_buffer_unmap(out, &to);
  gst_buffer_unmap(in, &from);
  return GST_FLOW_OK;
}

static GstFlowReturn converter_generate(GstBaseTransform* base, GstBuffer** out) {
  Converter* self = (Converter*)base;
  GstFlowReturn flow = GST_BASE_TRANSFORM_CLASS(converter_parent_class)->generate_output(base, out);
  if (flow != GST_FLOW_OK || !*out || !self->hold) return flow;
  g_queue_push_tail(&self->waiting, *out);
  *out = self->waiting.length > self->hold ? g_queue_pop_head(&self->waiting) : NULL;
  return flow;
}

static gboolean converter_sink_event(GstBaseTransform* base, GstEvent* event) {
  GstBuffer* picture;
  if (GST_EVENT_TYPE(event) == GST_EVENT_EOS)
    while ((picture = g_queue_pop_head(&((Converter*)base)->waiting)))
      gst_pad_push(base->srcpad, picture);
  return GST_BASE_TRANSFORM_CLASS(converter_parent_class)->sink_event(base, event);
}

static void converter_finalize(GObject* object) {
  g_queue_clear_full(&((Converter*)object)->waiting, (GDestroyNotify)gst_buffer_unref);
  G_OBJECT_CLASS(converter_parent_class)->finalize(object);
}

static void converter_init(Converter* self) { g_queue_init(&self->waiting); }

static void converter_class_init(ConverterClass* klass) {
  describe(klass, "NvVidConv", "Filter/Converter/Video/Scaler", ANY_MEMORY, ANY_MEMORY);
  klass->transform_caps = converter_transform_caps;
  klass->set_caps = converter_set_caps;
  klass->get_unit_size = converter_unit_size;
  klass->transform = converter_transform;
  klass->generate_output = converter_generate;
  klass->sink_event = converter_sink_event;
  ((GObjectClass*)klass)->finalize = converter_finalize;
}

/* nvv4l2decoder: a software decoder ! videoconvert ! a converter to NVMM */

typedef struct {
  GstBin parent;
  GstElement *decoder, *convert;
  Converter* nvmm;
  gboolean disable_dpb, fast, mjpeg;
} Decoder;
typedef GstBinClass DecoderClass;
G_DEFINE_TYPE(Decoder, decoder, GST_TYPE_BIN)

static GstElement* add(GstBin* bin, const char* factory) {
  GstElement* element = gst_element_factory_make(factory, NULL);
  gst_bin_add(bin, element);
  return element;
}

/* A converter from `raw` to NVMM, which becomes the pad `src` of the bin. */
static Converter* give_nvmm(GstBin* bin, GstElement* raw) {
  Converter* converter = g_object_new(converter_get_type(), NULL);
  GstElement* nvmm = add(bin, "capsfilter");
  converter->keeps_colours = TRUE;
  gst_bin_add(bin, GST_ELEMENT(converter));
  gst_util_set_object_arg(G_OBJECT(nvmm), "caps", NV12_IN_NVMM);
  gst_element_link_many(raw, GST_ELEMENT(converter), nvmm, NULL);
  GstPad* out = gst_element_get_static_pad(nvmm, "src");
  gst_element_add_pad(GST_ELEMENT(bin),
                      gst_ghost_pad_new_from_template("src", out, pad_of(bin, "src")));
  gst_object_unref(out);
  return converter;
}

static GstPadProbeReturn on_decoded(GstPad* pad, GstPadProbeInfo* info, gpointer self) {
  gboolean damaged =
      GST_BUFFER_FLAG_IS_SET(GST_PAD_PROBE_INFO_BUFFER(info), GST_BUFFER_FLAG_CORRUPTED);
  return damaged ? GST_PAD_PROBE_DROP : GST_PAD_PROBE_OK;
}

static const char* software(GstCaps* caps) {
  const char* name = gst_structure_get_name(gst_caps_get_structure(caps, 0));
  if (strcmp(name, "image/jpeg") == 0) return "jpegdec";
  return strcmp(name, "video/x-h265") == 0 ? "avdec_h265" : "avdec_h264";
}

static void note(const char* line) {
  FILE* log = g_getenv("STAND_IN_LOG") ? fopen(g_getenv("STAND_IN_LOG"), "a") : NULL;
  if (!log) return;
  fprintf(log, "%s\n", line);
  fclose(log);
}

static GstPadProbeReturn on_compressed(GstPad* pad, GstPadProbeInfo* info, gpointer data) {
  Decoder* self = data;
  if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_BUFFER) {
    note("picture");
    return GST_PAD_PROBE_OK;
  }
  GstEvent* event = GST_PAD_PROBE_INFO_EVENT(info);
  if (GST_EVENT_TYPE(event) != GST_EVENT_CAPS || self->decoder) return GST_PAD_PROBE_OK;
  GstCaps* caps;
  gst_event_parse_caps(event, &caps);
  if (strcmp(software(caps), "jpegdec") == 0 && !self->mjpeg) {
    GST_ELEMENT_ERROR(self, STREAM, DECODE, ("JPEG without mjpeg=1"), (NULL));
    return GST_PAD_PROBE_DROP;
  }
  self->decoder = add(GST_BIN(self), software(caps));
  if (g_object_class_find_property(G_OBJECT_GET_CLASS(self->decoder), "max-threads"))
    g_object_set(self->decoder, "max-threads", 1, NULL); /* each holds back a picture */
  gst_element_link(self->decoder, self->convert);
  GstPad* sink = gst_element_get_static_pad(self->decoder, "sink");
  GstPad* src = gst_element_get_static_pad(self->decoder, "src");
  gst_pad_add_probe(src, GST_PAD_PROBE_TYPE_BUFFER, on_decoded, self, NULL);
  gst_ghost_pad_set_target(GST_GHOST_PAD(pad), sink);
  gst_element_sync_state_with_parent(self->decoder);
  gst_object_unref(sink);
  gst_object_unref(src);
  return GST_PAD_PROBE_OK;
}

static void decoder_init(Decoder* self) {
  GstBin* bin = GST_BIN(self);
  self->convert = add(bin, "videoconvert");
  self->nvmm = give_nvmm(bin, self->convert);
  GstPad* sink = gst_ghost_pad_new_no_target_from_template("sink", pad_of(self, "sink"));
  gst_pad_add_probe(sink, GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM | GST_PAD_PROBE_TYPE_BUFFER,
                    on_compressed, self, NULL);
  gst_element_add_pad(GST_ELEMENT(self), sink);
}

static GstStateChangeReturn decoder_change_state(GstElement* element, GstStateChange change) {
  Decoder* self = (Decoder*)element;
  if (change == GST_STATE_CHANGE_NULL_TO_READY) {
    if (no_device()) return GST_STATE_CHANGE_FAILURE;
    note(self->fast ? "enable-max-performance" : "default performance");
    self->nvmm->hold = self->disable_dpb ? 0 : HELD_BACK;
  }
  return GST_ELEMENT_CLASS(decoder_parent_class)->change_state(element, change);
}

static gboolean* setting(GObject* object, guint id) {
  Decoder* self = (Decoder*)object;
  return id == 1 ? &self->disable_dpb : id == 2 ? &self->fast : &self->mjpeg;
}
static void decoder_set(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  *setting(object, id) = g_value_get_boolean(value);
}
static void decoder_get(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  g_value_set_boolean(value, *setting(object, id));
}

static void decoder_class_init(DecoderClass* klass) {
  GstElementClass* element = (GstElementClass*)klass;
  GObjectClass* object = (GObjectClass*)klass;
  object->set_property = decoder_set;
  object->get_property = decoder_get;
  element->change_state = decoder_change_state;
  const char* names[] = {"disable-dpb", "enable-max-performance", "mjpeg"};
  for (int i = 0; i < 3; i++)
    if (g_strcmp0(names[i], g_getenv("STAND_IN_LACKS")) != 0)
      g_object_class_install_property(
          object, i + 1, g_param_spec_boolean(names[i], "", "", FALSE, G_PARAM_READWRITE));
  describe(klass, "NVIDIA v4l2 video decoder", "Codec/Decoder/Video",
           "video/x-h264, stream-format=byte-stream, alignment=au; "
           "video/x-h265, stream-format=byte-stream, alignment=au; image/jpeg",
           NV12_IN_NVMM);
}

/* nvjpegdec */

typedef GstElement Jpeg;
typedef GstElementClass JpegClass;
G_DEFINE_TYPE(Jpeg, jpeg, GST_TYPE_ELEMENT)

static GstFlowReturn jpeg_chain(GstPad* pad, GstObject* self, GstBuffer* buffer) {
  gst_buffer_unref(buffer);
  GST_ELEMENT_ERROR(self, STREAM, DECODE, ("nvjpegdec fails"), (NULL));
  return GST_FLOW_ERROR;
}

static void jpeg_init(Jpeg* self) {
  GstPad* sink = gst_pad_new_from_template(pad_of(self, "sink"), "sink");
  gst_pad_set_chain_function(sink, jpeg_chain);
  gst_element_add_pad(self, sink);
  gst_element_add_pad(self, gst_pad_new_from_template(pad_of(self, "src"), "src"));
}

static void jpeg_class_init(JpegClass* klass) {
  describe(klass, "JPEG decoder", "Codec/Decoder/Image", "image/jpeg", ANY_MEMORY);
}

/* nvarguscamerasrc */

typedef struct {
  GstBin parent;
  int sensor;
} Argus;
typedef GstBinClass ArgusClass;
G_DEFINE_TYPE(Argus, argus, GST_TYPE_BIN)

static void argus_init(Argus* self) {
  GstElement* camera = add(GST_BIN(self), "videotestsrc");
  g_object_set(camera, "is-live", TRUE, NULL);
  give_nvmm(GST_BIN(self), camera);
}
static void argus_set(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  ((Argus*)object)->sensor = g_value_get_int(value);
}
static void argus_class_init(ArgusClass* klass) {
  ((GObjectClass*)klass)->set_property = argus_set;
  g_object_class_install_property(
      (GObjectClass*)klass, 1, g_param_spec_int("sensor-id", "", "", 0, 99, 0, G_PARAM_WRITABLE));
  describe(klass, "NvArgusCameraSrc", "Video/Capture", NULL, NV12_IN_NVMM);
}

/* usbcamera: what v4l2src would be with a camera that sends the colour bars as JPEG */

typedef struct {
  GstBin parent;
} Usb;
typedef GstBinClass UsbClass;
G_DEFINE_TYPE(Usb, usb, GST_TYPE_BIN)

static void usb_init(Usb* self) {
  GstElement *camera = add(GST_BIN(self), "videotestsrc"), *raw = add(GST_BIN(self), "capsfilter");
  GstElement *jpeg = add(GST_BIN(self), "jpegenc"), *sent = add(GST_BIN(self), "capsfilter");
  const char* format = g_getenv("STAND_IN_CAMERA") ? g_getenv("STAND_IN_CAMERA") : "I420";
  char* caps = g_strdup_printf("video/x-raw,format=%s", format);
  g_object_set(camera, "is-live", TRUE, NULL);
  g_object_set(jpeg, "quality", 100, NULL);
  gst_util_set_object_arg(G_OBJECT(raw), "caps", caps);
  g_free(caps);
  gst_util_set_object_arg(G_OBJECT(sent), "caps", "image/jpeg,width=640,height=480,framerate=30/1");
  gst_element_link_many(camera, raw, jpeg, sent, NULL);
  GstPad* out = gst_element_get_static_pad(sent, "src");
  gst_element_add_pad(GST_ELEMENT(self), gst_ghost_pad_new("src", out));
  gst_object_unref(out);
}
static void usb_set(GObject* object, guint id, const GValue* value, GParamSpec* spec) {}
static void usb_class_init(UsbClass* klass) {
  ((GObjectClass*)klass)->set_property = usb_set;
  g_object_class_install_property((GObjectClass*)klass, 1,
                                  g_param_spec_string("device", "", "", NULL, G_PARAM_WRITABLE));
  g_object_class_install_property(
      (GObjectClass*)klass, 2,
      g_param_spec_boolean("do-timestamp", "", "", FALSE, G_PARAM_WRITABLE));
  describe(klass, "USB camera", "Source/Video", NULL, "image/jpeg");
}

/* Thread-local memory as some of NVIDIA's libraries have it: of a kind that each process has little
 * of, so that whether the plug-in loads depends on what was loaded before. */
#ifdef TLS_BYTES
static __thread volatile char tls[TLS_BYTES] __attribute__((tls_model("initial-exec")));
#endif

static gboolean plugin_init(GstPlugin* plugin) {
#ifdef TLS_BYTES
  tls[0] = 1;
#endif
  return gst_element_register(plugin, "nvvidconv", GST_RANK_PRIMARY, converter_get_type()) &&
         gst_element_register(plugin, "nvv4l2decoder", GST_RANK_PRIMARY + 11, decoder_get_type()) &&
         gst_element_register(plugin, "nvjpegdec", GST_RANK_PRIMARY + 15, jpeg_get_type()) &&
         gst_element_register(plugin, "nvarguscamerasrc", GST_RANK_NONE, argus_get_type()) &&
         gst_element_register(plugin, "usbcamera", GST_RANK_NONE, usb_get_type());
}

#ifndef PLUGIN
#define PLUGIN nvstandin
#endif
#define PACKAGE "stand-in"
GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, PLUGIN, "A Jetson's elements", plugin_init,
                  "1.0", "BSD", "stand-in", "https://example.org/")
