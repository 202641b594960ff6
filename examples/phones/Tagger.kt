// Calls a LiteRT bundle from an Android app, and checks it with the bundle's golden pictures: docs/phones.md.
//
// Needs com.google.ai.edge.litert:litert 1.x, whose package is org.tensorflow.lite. The model is the bundle's
// model.tflite, read into a direct buffer; golden.npz lies beside it, for example both among the app's assets.

import java.io.ByteArrayOutputStream
import java.io.Closeable
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipInputStream
import org.tensorflow.lite.Interpreter

/** Raw pictures in, one logit per label out. */
class Tagger(model: ByteBuffer, private val size: Int, private val labels: Int, threads: Int = 2) : Closeable {
    private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))

    /** The logits of [count] pictures: uint8 RGB, row after row, [size] x [size], one after the other. */
    @Synchronized
    fun logits(pixels: ByteArray, count: Int): Array<FloatArray> {
        require(pixels.size == count * size * size * 3) {
            "received ${pixels.size} bytes; expected $count x $size x $size x 3"
        }
        val input = ByteBuffer.allocateDirect(pixels.size).order(ByteOrder.nativeOrder())
        input.put(pixels).rewind()
        interpreter.resizeInput(0, intArrayOf(count, size, size, 3))
        val output = Array(count) { FloatArray(labels) }
        interpreter.run(input, output)
        return output
    }

    override fun close() = interpreter.close()
}

/** The pictures that a bundle carries, and the answers to them where it was made (golden.npz). */
class Golden(
    val pictures: ByteArray,
    val count: Int,
    val size: Int,
    private val logits: FloatArray,
    private val answers: FloatArray?
) {
    val labels = logits.size / count

    /** Why a tagger answers otherwise than where its bundle was made; null where it does not. The rule is edgepress's. */
    fun disagreement(tagger: Tagger, precision: String): String? {
        val found = tagger.logits(pictures, count).flatMap { it.asIterable() }.toFloatArray()
        if (found.any { it.isNaN() || it.isInfinite() }) return "a logit is NaN or infinite"
        val allowed = when (precision) { "fp32" -> 0.05; "fp16" -> 0.5; else -> null }
        if (allowed != null) {
            val largest = found.indices.fold(0.0) { most, i -> Math.max(most, Math.abs(found[i].toDouble() - logits[i])) }
            return if (largest > allowed) "a logit differs by $largest; $allowed is allowed" else null
        }
        val own = answers ?: return "golden.npz has no answers of this INT8 engine; make it again"
        val noise = rms(own, logits)
        if (rms(found, own) <= 0.25 * noise || rms(found, logits) <= 1.1 * noise) return null
        return "its logits are ${rms(found, logits)} from the model's (root mean square) and were $noise"
    }

    private fun rms(a: FloatArray, b: FloatArray): Double =
        Math.sqrt(a.indices.map { (a[it].toDouble() - b[it]).let { d -> d * d } }.average())

    companion object {
        /** Read golden.npz: a zip of numpy arrays. */
        fun read(file: InputStream): Golden {
            val arrays = HashMap<String, Npy>()
            ZipInputStream(file).use { zip ->
                while (true) {
                    val entry = zip.nextEntry ?: break
                    arrays[entry.name.removeSuffix(".npy")] = Npy.parse(bytes(zip))
                }
            }
            val pictures = arrays["pictures"] ?: throw IllegalArgumentException("golden.npz has no pictures")
            val logits = arrays["logits"] ?: throw IllegalArgumentException("golden.npz has no logits")
            val (count, size) = pictures.shape
            return Golden(pictures.data, count, size, logits.floats(), arrays["answers"]?.floats())
        }

        private fun bytes(stream: InputStream): ByteArray {
            val all = ByteArrayOutputStream()
            stream.copyTo(all)
            return all.toByteArray()
        }
    }
}

/** An array in numpy's format, version 1.0: 10 bytes, a header in text, the values in the order of rows. */
class Npy(private val type: String, val shape: List<Int>, val data: ByteArray) {
    fun floats(): FloatArray {
        require(type == "<f4") { "an array of type $type; expected <f4" }
        val values = FloatArray(data.size / 4)
        ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values)
        return values
    }

    companion object {
        fun parse(file: ByteArray): Npy {
            val length = (file[8].toInt() and 0xff) or ((file[9].toInt() and 0xff) shl 8)
            val header = String(file, 10, length, Charsets.US_ASCII)
            require(file[6].toInt() == 1 && header.contains("'fortran_order': False")) {
                "not an array of numpy's format 1.0"
            }
            val type = Regex("'descr': '([^']+)'").find(header)!!.groupValues[1]
            val shape = Regex("'shape': \\(([^)]*)\\)").find(header)!!.groupValues[1]
            val sizes = shape.split(",").map { it.trim() }.filter { it.isNotEmpty() }.map { it.toInt() }
            return Npy(type, sizes, file.copyOfRange(10 + length, file.size))
        }
    }
}
