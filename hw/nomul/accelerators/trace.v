// Writes what passes to a file, one line a transfer: the cycle and the data in hexadecimal. For simulation only.
module NOMUL_TRACE #(
    parameter WIDTH = 8,
    parameter FILE = ""
) (
    input clk,
    input valid,
    input [WIDTH-1:0] data
);
  integer file;
  reg [63:0] cycle;
  initial begin
    file  = $fopen(FILE, "w");
    cycle = 0;
  end
  always @(posedge clk) begin
    cycle <= cycle + 1;
    if (valid) $fwrite(file, "%0d %h\n", cycle, data);
  end
endmodule
