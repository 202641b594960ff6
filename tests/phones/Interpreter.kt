// The signatures of LiteRT 1.x that examples/phones/Tagger.kt uses, for compiling and running it without Android: the
// package index of the tests has no LiteRT for Java. Its "model" is the float32 logits that it answers, in their order.

package org.tensorflow.lite

import java.nio.ByteBuffer
import java.nio.ByteOrder

class Interpreter(model: ByteBuffer, options: Options) : AutoCloseable {
    class Options {
        fun setNumThreads(threads: Int): Options = this
    }

    private val answers = model.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
    private var expected = 0

    fun resizeInput(index: Int, sizes: IntArray) {
        require(index == 0 && sizes.size == 4)
        expected = sizes.reduce { a, b -> a * b }
    }

    fun run(input: Any, output: Any) {
        val bytes = input as ByteBuffer
        require(bytes.isDirect && bytes.remaining() == expected) { "${bytes.remaining()} bytes; expected $expected" }
        @Suppress("UNCHECKED_CAST")
        for (row in output as Array<FloatArray>) answers.get(row)
    }

    override fun close() {}
}
